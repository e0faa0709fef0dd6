"""Forms a trigger can take: something pasted over every image, or something added to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

AWAY = -1
"""The goal of a trigger that leads every image away from its own answer, to whatever class."""


class Trigger(Protocol):
    """A change made by one rule to every image."""

    @property
    def target(self) -> int:
        """The class it was searched for, or `AWAY`."""

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
        return pasted(images, self.mask, self.pattern)


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
        return within(images + self.shift, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Warp:
    """x(p) ↦ x(p + d(p)), bilinear, with a smooth field d; its size is the root mean square of |d|, in pixels.

    Attributes:
        target: The class it was searched for.
        knots: Displacements on a coarse grid, in pixels (along the columns, along the rows), shape (2, k, k); the
            field is their bicubic interpolation.

    >>> picture = torch.arange(25.0).view(1, 1, 5, 5)
    >>> right = Warp(0, torch.stack([torch.ones(2, 2), torch.zeros(2, 2)]))
    >>> right.size, right.on(picture)[0, 0, 0].tolist()
    (1.0, [1.0, 2.0, 3.0, 4.0, 4.0])
    """

    target: int
    knots: Tensor

    @property
    def size(self) -> float:
        return float(displacement(self.knots[None]))

    def on(self, images: Tensor) -> Tensor:
        return warped(images, self.knots[None])[0]


def pasted(images: Tensor, masks: Tensor, patterns: Tensor) -> Tensor:
    """(1 − m) x + m p."""
    return (1 - masks) * images + masks * patterns


def within(images: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Images cut to a range."""
    return torch.minimum(torch.maximum(images, low), high)


def lengths(shifts: Tensor) -> Tensor:
    """Euclidean length of each of several shifts (n, c, h, w), shape (n, 1, 1, 1), never quite nothing."""
    norms: Tensor = torch.linalg.vector_norm(shifts, dim=(1, 2, 3), keepdim=True)
    return norms.clamp_min(1e-12)


def displacement(knots: Tensor) -> Tensor:
    """Root mean square displacement of each of several fields, from their knots of shape (m, 2, k, k)."""
    return knots.square().sum(1).mean((1, 2)).add(1e-12).sqrt()


def warped(images: Tensor, knots: Tensor) -> Tensor:
    """Bend images (n, c, h, w) by each of m fields, knots (m, 2, k, k); what lies beyond the edge is the edge.

    Returns:
        Shape (m, n, c, h, w).
    """
    (height, width), many = images.shape[2:], len(knots)
    fields = F.interpolate(knots, (height, width), mode="bicubic", align_corners=True)
    rows = torch.linspace(-1, 1, height, dtype=images.dtype, device=images.device)[:, None]
    columns = torch.linspace(-1, 1, width, dtype=images.dtype, device=images.device)
    # grid_sample counts from -1 to 1 over the centres of the outermost pixels.
    across = columns + fields[:, 0] * (2 / max(width - 1, 1))
    down = rows + fields[:, 1] * (2 / max(height - 1, 1))
    grid = torch.stack([across, down], -1)[:, None].expand(-1, len(images), -1, -1, -1)
    repeated = images.expand(many, *images.shape)
    bent = F.grid_sample(
        repeated.flatten(0, 1), grid.flatten(0, 1), padding_mode="border", align_corners=True
    )
    return bent.view(many, *images.shape)
