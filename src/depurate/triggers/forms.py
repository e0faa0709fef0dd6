"""Forms a trigger can take: something pasted over every image, or something added to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Trigger(Protocol):
    """A change that is the same for every image."""

    @property
    def target(self) -> int:
        """The class it was searched for."""

    @property
    def size(self) -> float:
        """How much of an image it changes; smaller is more suspicious."""

    def on(self, images: Tensor) -> Tensor:
        """Put it on copies of images of shape (n, c, h, w)."""


@dataclass(frozen=True, eq=False)
class Patch:
    """x ↦ (1 − m) x + m p, with a mask m and a pattern p; its size is Σ m, in pixels.

    Attributes:
        target: The class it was searched for.
        mask: Shape (1, h, w), 0 to 1.
        pattern: Shape (c, h, w), in the units of the images.

    >>> patch = Patch(3, torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    >>> patch.size, float(patch.on(torch.zeros(5, 1, 2, 2)).sum())
    (0.0, 0.0)
    """

    target: int
    mask: Tensor
    pattern: Tensor

    @property
    def size(self) -> float:
        return float(self.mask.sum())

    def on(self, images: Tensor) -> Tensor:
        return (1 - self.mask) * images + self.mask * self.pattern


@dataclass(frozen=True, eq=False)
class Addition:
    """x ↦ clip(x + δ) to the range of the images; its size is ‖δ / (high − low)‖₂.

    Attributes:
        target: The class it was searched for.
        shift: δ, shape (c, h, w).
        low: Smallest value of each channel, shape (c, 1, 1).
        high: Largest.

    >>> one = torch.ones(1, 1, 1)
    >>> float(Addition(0, 3 * torch.ones(1, 2, 2), 0 * one, one).on(torch.zeros(5, 1, 2, 2)).max())
    1.0
    """

    target: int
    shift: Tensor
    low: Tensor
    high: Tensor

    @property
    def size(self) -> float:
        return float((self.shift / (self.high - self.low).clamp_min(1e-12)).norm())

    def on(self, images: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(images + self.shift, self.low), self.high)
