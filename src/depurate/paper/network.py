"""The paper's network: one hidden layer of kernels on disjoint patches, summed, then one linear output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import relu

from depurate.errors import InputError

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class PatchNetwork:
    """ŷ(x) = p^(−1/2) Σ_j Σ_i β_j ψ(W_jᵀ P_i x), with P_1 x … P_m x the disjoint patches of x.

    Attributes:
        kernels: W, shape (p, k), floating point.
        output: β, shape (p,), same dtype and device.
        activation: ψ, applied entry by entry, such as `torch.nn.functional.relu`.

    >>> import torch
    >>> network = PatchNetwork(torch.eye(2), torch.tensor([1.0, 2.0]))
    >>> patches = torch.tensor([[[3.0, -1.0], [1.0, 4.0]]])
    >>> network.features(patches).tolist(), round(network.predict(patches).item() * 2**0.5, 5)
    ([[4.0, 4.0]], 12.0)
    """

    kernels: Tensor
    output: Tensor
    activation: Activation = relu

    def __post_init__(self) -> None:
        if self.kernels.ndim != 2 or self.output.shape != self.kernels.shape[:1]:
            shapes = f"{tuple(self.kernels.shape)} and {tuple(self.output.shape)}"
            raise InputError(f"kernels and output: shapes {shapes}; expected (p, k) and (p,)")
        if not self.kernels.is_floating_point() or self.kernels.dtype != self.output.dtype:
            kinds = f"{self.kernels.dtype} and {self.output.dtype}"
            raise InputError(f"kernels and output: {kinds}; expected one floating point type")

    @classmethod
    def initialise(
        cls,
        units: int,
        fan_in: int,
        *,
        activation: Activation = relu,
        seed: int,
        dtype: torch.dtype = torch.float64,
    ) -> PatchNetwork:
        """Draw W_j(0) ~ N(0, I/k) and β_j(0) ~ N(0, 1).

        Args:
            units: p, the number of kernels.
            fan_in: k, the numbers of a patch.
            activation: ψ.
            seed: Decides the draw.
            dtype: Of the weights; drawn in float64 and rounded to it.

        >>> PatchNetwork.initialise(5, 3, seed=0).kernels.shape
        torch.Size([5, 3])
        """
        generator = torch.Generator().manual_seed(seed)
        kernels = torch.randn(units, fan_in, generator=generator, dtype=torch.float64) / fan_in**0.5
        output = torch.randn(units, generator=generator, dtype=torch.float64)
        return cls(kernels.to(dtype), output.to(dtype), activation)

    def check_patches(self, patches: Tensor) -> None:
        """Refuse patches that are not of shape (n, m, k) and of this network's dtype.

        Raises:
            InputError: They do not fit the kernels.
        """
        if patches.ndim != 3 or patches.shape[2] != self.kernels.shape[1]:
            expected = f"(n, m, {self.kernels.shape[1]})"
            raise InputError(f"patches: shape {tuple(patches.shape)}; expected {expected}")
        if patches.dtype != self.kernels.dtype:
            raise InputError(f"patches: {patches.dtype}; the network is {self.kernels.dtype}")

    def preactivations(self, patches: Tensor) -> Tensor:
        """W_jᵀ P_i x for patches of shape (n, m, k): shape (n, m, p)."""
        self.check_patches(patches)
        return patches @ self.kernels.T

    def features(self, patches: Tensor) -> Tensor:
        """Σ_i ψ(W P_i x) for patches of shape (n, m, k): shape (n, p)."""
        return self.activation(self.preactivations(patches)).sum(1)

    def predict(self, patches: Tensor) -> Tensor:
        """ŷ(x) for patches of shape (n, m, k): shape (n,)."""
        predicted: Tensor = self.features(patches) @ self.output / self.output.shape[0] ** 0.5
        return predicted
