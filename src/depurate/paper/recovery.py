"""Recovery of the paper's network: kernels by l1 on the clean patches, then the output on recovered features."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.errors import InputError
from depurate.paper.network import PatchNetwork
from depurate.paper.undo import undo
from depurate.solver import Solution


@dataclass(frozen=True, eq=False)
class PaperRecovery:
    """The recovered network, and what is proved of it.

    Attributes:
        network: W̃ and β̃. Weights that the l1 fit interpolates are the contaminated network's own, bit for bit.
        kernel_solution: ũ, one target a kernel, in the columns of A_W = [P_1 x_1 … P_m x_n].
        output_solution: ṽ, in the columns of A_β = [Σ_i ψ(W̃ P_i x_1) … Σ_i ψ(W̃ P_i x_n)].
        kernels_certified: Shape (p,), bool: the l1 solution is optimal and unique, and fits more entries exactly
            than the rank, each confirmed by the others; noise from a law without atoms, or an update outside the
            span, does that with probability zero.
        output_certified: The same of the output, and every kernel that its features come from is certified too.
        seconds: Wall time.
    """

    network: PatchNetwork
    kernel_solution: Solution
    output_solution: Solution
    kernels_certified: Tensor
    output_certified: bool
    seconds: float

    @property
    def certified(self) -> bool:
        """Whether every kernel and the output are certified."""
        return self.output_certified and bool(self.kernels_certified.all())


@dataclass(frozen=True, eq=False)
class RelativeErrors:
    """‖W̃_j − Ŵ_j‖₂ / ‖Ŵ_j‖₂ for every kernel, shape (p,), and ‖β̃ − β̂‖₂ / ‖β̂‖₂."""

    kernels: Tensor
    output: float


def recover(contaminated: PatchNetwork, initial: PatchNetwork, patches: Tensor) -> PaperRecovery:
    """Undo sparse noise on every weight by least absolute deviations on what training could have added.

    ũ_j = argmin_u ‖Θ_j − W_j(0) − A_W u‖₁,  W̃_j = W_j(0) + A_W ũ_j,  A_W = [P_1 x_1 … P_m x_n],
    ṽ = argmin_v ‖η − β(0) − A_β v‖₁,  β̃ = β(0) + A_β ṽ,  A_β = [Σ_i ψ(W̃ P_i x_1) … Σ_i ψ(W̃ P_i x_n)].

    Where both layers were trained at once β̂ − β(0) is only near col(A_β): β̃ is then an approximation, and
    `output_certified` is false because the fit meets no more entries than it has coefficients.

    Args:
        contaminated: Θ and η, float64; or float32, where what is certified is right to a thousandth of its update,
            and what moved less than float32 can tell so is not certified.
        initial: W(0) and β(0), same shapes and dtype.
        patches: The clean training inputs, shape (n, m, k), in any order.

    Returns:
        The recovered network, both solutions and what is certified.

    Raises:
        InputError: The networks differ in shape or dtype, or a weight is not finite.

    >>> import torch
    >>> from depurate.contamination import Gaussian
    >>> from depurate.paper import contaminate_network, train
    >>> patches = torch.randn(3, 2, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> trained = train(PatchNetwork.initialise(60, 80, seed=0), patches, torch.ones(3).double())
    >>> hit = contaminate_network(trained.final, 0.2, Gaussian(), seed=1)
    >>> recovery = recover(hit, trained.initial, patches)
    >>> recovery.certified, bool(relative_errors(recovery, trained.final).kernels.max() < 1e-12)
    (True, True)
    """
    started = time.perf_counter()
    check_pair(contaminated, initial)
    initial.check_patches(patches)
    design = patches.flatten(0, 1).T
    kernels = undo(design, contaminated.kernels.T, initial.kernels.T)
    network = replace(initial, kernels=kernels.weights.T.contiguous())
    output = undo(network.features(patches).T, contaminated.output[:, None], initial.output[:, None])
    return PaperRecovery(
        network=replace(network, output=output.weights[:, 0]),
        kernel_solution=kernels.solution,
        output_solution=output.solution,
        kernels_certified=kernels.certified,
        output_certified=bool(output.certified) and bool(kernels.certified.all()),
        seconds=time.perf_counter() - started,
    )


def relative_errors(recovery: PaperRecovery, clean: PatchNetwork) -> RelativeErrors:
    """Compare the recovered weights with the clean ones.

    Args:
        recovery: What `recover` returned.
        clean: Ŵ and β̂.

    Returns:
        One relative error a kernel, and one of the output.

    >>> from depurate.contamination import Constant
    >>> from depurate.paper import contaminate_network
    >>> network = PatchNetwork.initialise(9, 20, seed=0)
    >>> patches = network.kernels[:3].reshape(3, 1, 20)
    >>> relative_errors(recover(network, network, patches), network).output
    0.0
    """
    found = recovery.network
    kernels = (found.kernels - clean.kernels).norm(dim=1) / clean.kernels.norm(dim=1)
    return RelativeErrors(kernels, float((found.output - clean.output).norm() / clean.output.norm()))


def check_pair(contaminated: PatchNetwork, initial: PatchNetwork) -> None:
    """Refuse two networks that differ in shape or dtype, or hold a weight that is not finite.

    Raises:
        InputError: They cannot be recovered from.
    """
    names = ("contaminated", "initial")
    one, other = (f"{tuple(net.kernels.shape)} {net.kernels.dtype}" for net in (contaminated, initial))
    if one != other:
        raise InputError(f"contaminated kernels: {one}, initial kernels: {other}; expected the same")
    if initial.kernels.dtype not in (torch.float64, torch.float32):
        raise InputError(f"kernels: {initial.kernels.dtype}; expected float64 or float32")
    for name, network in zip(names, (contaminated, initial), strict=True):
        for part, values in (("kernels", network.kernels), ("output", network.output)):
            bad = (~values.isfinite()).nonzero()
            if bad.shape[0]:
                place = tuple(bad[0].tolist())
                raise InputError(
                    f"{name} {part}: {values[place].item()} at index {place}; expected finite weights"
                )
