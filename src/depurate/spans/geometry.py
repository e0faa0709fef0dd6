"""Convolutions and dense layers as one linear map from patches to outputs, position by position."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parametrize

Module = nn.Module
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Geometry(Protocol):
    """How a layer reads patches: everything recovery needs to know of a module besides its numbers."""

    @property
    def groups(self) -> int:
        """Independent blocks of kernels, each with inputs of its own."""

    @property
    def fan_in(self) -> int:
        """Numbers a kernel has, the bias counted."""

    @property
    def bias(self) -> bool:
        """Whether the last of them is a bias."""

    def positions(self, inputs: Tensor) -> int:
        """Positions a kernel visits in one input."""

    def patches(self, inputs: Tensor, at: Tensor) -> Tensor:
        """Patches at the chosen positions, shape (groups, n·chosen, fan_in), 1 appended for the bias."""

    def outputs(self, outputs: Tensor, at: Tensor) -> Tensor:
        """The layer's outputs at the chosen positions, shape (groups, n·chosen, kernels of a group)."""


def read_kernels(module: Module) -> Tensor:
    """Flatten a layer's weight and bias into one row a kernel.

    Args:
        module: A `Conv1d`, `Conv2d`, `Conv3d` or `Linear`.

    Returns:
        Tensor of shape (groups, kernels of a group, fan_in), the bias last.

    Example:
        >>> read_kernels(nn.Conv2d(4, 6, 3, groups=2)).shape
        torch.Size([2, 3, 19])
    """
    weight: Tensor = module.weight.detach()  # type: ignore[operator]
    groups = getattr(module, "groups", 1)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    if getattr(module, "bias", None) is not None:
        bias = module.bias.detach().reshape(groups, -1, 1)  # type: ignore[operator]
        kernels = torch.cat([kernels, bias], dim=2)
    return kernels.clone()


def write_kernels(module: Module, kernels: Tensor) -> None:
    """Put rows made by `read_kernels` back into a module.

    Example:
        >>> layer = nn.Linear(3, 2)
        >>> write_kernels(layer, torch.ones(1, 2, 4))
        >>> layer.bias.tolist()
        [1.0, 1.0]
    """
    weight: nn.Parameter = module.weight  # type: ignore[assignment]
    with torch.no_grad():
        if getattr(module, "bias", None) is not None:
            module.bias.copy_(kernels[..., -1].reshape(-1))  # type: ignore[operator]
            kernels = kernels[..., :-1]
        weight.copy_(kernels.reshape(weight.shape))


def geometry_of(module: Module) -> Geometry | None:
    """Return how a module reads patches, or None when it is no plain convolution or dense layer.

    A layer whose weight is computed from other parameters (weight or spectral normalisation) is not plain: there
    is no weight of its own to put a recovered one into.

    Example:
        >>> geometry_of(nn.Conv2d(3, 8, 5, bias=False)).fan_in
        75
        >>> geometry_of(nn.ReLU()) is None
        True
    """
    return base_geometry_of(module) if type(module) in (*_CONVOLUTIONS, nn.Linear) else None


def base_geometry_of(module: Module) -> Geometry | None:
    """As `geometry_of`, but of classes derived from plain ones, too: how the class that they derive from would read.

    >>> class Scaled(nn.Linear):
    ...     pass
    >>> geometry_of(Scaled(2, 1)), base_geometry_of(Scaled(2, 1)).fan_in
    (None, 3)
    """
    own = isinstance(getattr(module, "weight", None), nn.Parameter)
    if not own or parametrize.is_parametrized(module):
        return None
    if isinstance(module, _CONVOLUTIONS):
        return ConvolutionGeometry.of(module)
    if isinstance(module, nn.Linear):
        return DenseGeometry(module.in_features, module.bias is not None)
    return None


@dataclass(frozen=True)
class DenseGeometry:
    """A dense layer: every vector along the last axis is a patch.

    Example:
        >>> geometry = DenseGeometry(features=3, bias=True)
        >>> geometry.positions(torch.zeros(5, 7, 3)), geometry.positions(torch.zeros(5, 3))
        (7, 1)
    """

    features: int
    bias: bool
    groups: int = 1

    @property
    def fan_in(self) -> int:
        return self.features + self.bias

    def positions(self, inputs: Tensor) -> int:
        return prod(inputs.shape[1:-1])

    def patches(self, inputs: Tensor, at: Tensor) -> Tensor:
        return _with_one(self.outputs(inputs, at), self.bias)

    def outputs(self, outputs: Tensor, at: Tensor) -> Tensor:
        values = outputs.reshape(outputs.shape[0], -1, outputs.shape[-1])
        chosen = values.gather(1, at[:, :, None].expand(-1, -1, values.shape[2]))
        return chosen.reshape(1, -1, values.shape[2])


@dataclass(frozen=True)
class ConvolutionGeometry:
    """A convolution in one, two or three dimensions, with any stride, padding, dilation and groups.

    Example:
        >>> layer = nn.Conv2d(2, 4, 3, stride=2, padding="valid")
        >>> geometry = ConvolutionGeometry.of(layer)
        >>> geometry.positions(torch.zeros(1, 2, 9, 9))
        16
    """

    channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    padding_mode: str
    groups: int
    bias: bool

    @classmethod
    def of(cls, module: Module) -> ConvolutionGeometry:
        """Read the geometry of a `Conv1d`, `Conv2d` or `Conv3d`."""
        assert isinstance(module, _CONVOLUTIONS)
        return cls(
            channels=module.in_channels,
            kernel=tuple(module.kernel_size),
            stride=tuple(module.stride),
            dilation=tuple(module.dilation),
            padding=_padding(module),
            padding_mode="constant" if module.padding_mode == "zeros" else module.padding_mode,
            groups=module.groups,
            bias=module.bias is not None,
        )

    @property
    def fan_in(self) -> int:
        return self.channels // self.groups * prod(self.kernel) + self.bias

    def positions(self, inputs: Tensor) -> int:
        return prod(self._grid(inputs))

    def patches(self, inputs: Tensor, at: Tensor) -> Tensor:
        grid, before = self._grid(inputs), [pad for pad, _ in self.padding]
        if self.padding_mode != "constant":
            pads = [side for pair in reversed(self.padding) for side in pair]
            inputs, before = F.pad(inputs, pads, mode=self.padding_mode), [0] * len(before)
        sizes = torch.tensor(inputs.shape[2:], device=at.device)
        corner = torch.stack(torch.unravel_index(at, grid), dim=-1) * sizes.new_tensor(self.stride)
        taps = torch.cartesian_prod(*(torch.arange(k, device=at.device) for k in self.kernel))
        taps = taps.view(-1, len(sizes)) * sizes.new_tensor(self.dilation)
        # Only what is looked at is padded: most positions of wide layers are not.
        place = corner[:, :, None, :] + taps - sizes.new_tensor(before)
        outside = ((place < 0) | (place >= sizes)).any(-1).flatten(1)
        reach = sizes.flip(0).cumprod(0).flip(0) // sizes
        index = (place.clamp(torch.zeros_like(sizes), sizes - 1) * reach).sum(-1).flatten(1)
        values = inputs.flatten(2).gather(2, index[:, None, :].expand(-1, self.channels, -1))
        values.masked_fill_(outside[:, None, :], 0.0)
        n, chosen = at.shape
        values = values.reshape(n, self.groups, self.channels // self.groups, chosen, len(taps))
        values = values.permute(1, 0, 3, 2, 4).reshape(self.groups, n * chosen, -1)
        return _with_one(values, self.bias)

    def outputs(self, outputs: Tensor, at: Tensor) -> Tensor:
        n, channels = outputs.shape[:2]
        values = outputs.flatten(2).gather(2, at[:, None, :].expand(-1, channels, -1))
        values = values.reshape(n, self.groups, channels // self.groups, -1)
        return values.permute(1, 0, 3, 2).reshape(self.groups, -1, channels // self.groups)

    def _grid(self, inputs: Tensor) -> tuple[int, ...]:
        return tuple(
            (size + sum(pad) - dilation * (kernel - 1) - 1) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                inputs.shape[2:], self.padding, self.dilation, self.kernel, self.stride, strict=True
            )
        )


def _padding(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> tuple[tuple[int, int], ...]:
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    if module.padding == "valid":
        return ((0, 0),) * len(module.kernel_size)
    return tuple((int(pad), int(pad)) for pad in module.padding)


def _with_one(patches: Tensor, bias: bool) -> Tensor:
    return F.pad(patches, (0, 1), value=1.0) if bias else patches
