"""Triggers that differ from image to image: small networks that draw one for every image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers.candidates import value_range
from depurate.triggers.effort import quickly
from depurate.triggers.forms import pasted

# Channels of the small networks, and their layers as (side of the kernel, dilation): 11 pixels are seen.
_WIDTH = 16
_LAYERS = ((3, 1), (3, 1), (3, 2), (3, 1))
_PRICES = (1e-2, 1e-4, 0.3)
# Patterns are driven harder than masks, as in patches.
_CONTRAST = 2.0
# Adam moves weights of networks by far less than pixels.
_TIMES = 1 / 60


@dataclass(frozen=True, eq=False)
class Aware:
    """x ↦ (1 − m(x)) x + m(x) p(x), m and p drawn by a small convolutional network; its size is the mean Σ m.

    Attributes:
        target: The class it was searched for.
        weights: Kernel and bias of each layer.
        low: Smallest value of each channel, shape (c, 1, 1).
        high: Largest.
        size: In pixels, on the images of the search.

    >>> weights = [(torch.zeros(2, 1, 3, 3), torch.tensor([20.0, 20.0]))]
    >>> one = torch.ones(1, 1, 1)
    >>> float(Aware(0, weights, 0 * one, one, 4.0).on(torch.zeros(5, 1, 2, 2)).min())
    1.0
    """

    target: int
    weights: list[tuple[Tensor, Tensor]]
    low: Tensor
    high: Tensor
    size: float

    def on(self, images: Tensor) -> Tensor:
        return pasted(images, *_drawn(images, self.weights, 1, self.low, self.high))[0]


class AwareCandidates:
    """One small network a goal, all in grouped convolutions; their sizes are those on the images last shown."""

    def __init__(self, images: Tensor, count: int, generator: torch.Generator) -> None:
        self._low, self._high = value_range(images)
        self._count = count
        self._sizes = images.new_zeros(count)
        self._weights = [
            (kernel.to(images).requires_grad_(), images.new_zeros(len(kernel)).requires_grad_())
            for kernel in _kernels(images.shape[1], count, generator)
        ]

    @property
    def prices(self) -> tuple[float, float, float]:
        return _PRICES

    @property
    def moved(self) -> list[dict[str, Any]]:
        return [{"params": tensor, "times": _TIMES} for layer in self._weights for tensor in layer]

    def sizes(self) -> Tensor:
        return self._sizes

    def on(self, images: Tensor) -> Tensor:
        masks, patterns = _drawn(images, self._weights, self._count, self._low, self._high)
        self._sizes = masks.flatten(2).sum(2).mean(1)
        return pasted(images, masks, patterns)

    def taken(self, place: int, target: int) -> Aware:
        weights = [
            (
                kernel.detach().chunk(self._count)[place].clone(),
                bias.detach().chunk(self._count)[place].clone(),
            )
            for kernel, bias in self._weights
        ]
        return Aware(target, weights, self._low, self._high, float(self._sizes[place].detach()))


def _kernels(channels: int, count: int, generator: torch.Generator) -> list[Tensor]:
    """Uniform kernels, of the spread that PyTorch begins with; the last draw a mask and a pattern."""
    wide, kernels = channels, []
    for place, (side, _) in enumerate(_LAYERS):
        out = 1 + channels if place == len(_LAYERS) - 1 else _WIDTH
        reach = (wide * side**2) ** -0.5
        kernels.append(reach * (2 * torch.rand(count * out, wide, side, side, generator=generator) - 1))
        wide = _WIDTH
    return kernels


def _drawn(
    images: Tensor, weights: list[tuple[Tensor, Tensor]], count: int, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Masks (count, n, 1, h, w) and patterns (count, n, c, h, w) of every network for every image."""
    # Grouped convolutions take half the time laid out so.
    seen = images.contiguous(memory_format=torch.channels_last)
    with quickly(images):
        for place, ((kernel, bias), (side, dilation)) in enumerate(zip(weights, _LAYERS, strict=False)):
            groups = 1 if place == 0 else count
            seen = F.relu(seen) if place else seen
            padding = side // 2 * dilation
            seen = F.conv2d(seen, kernel, bias, padding=padding, dilation=dilation, groups=groups)
    drawn = seen.to(images.dtype).contiguous().view(len(images), count, -1, *images.shape[2:]).transpose(0, 1)
    return drawn[:, :, :1].sigmoid(), low + (high - low) * (_CONTRAST * drawn[:, :, 1:]).sigmoid()
