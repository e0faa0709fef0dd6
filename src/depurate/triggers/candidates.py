"""Triggers while they are searched for: one a goal, all in one batch, with the parameters that descent moves."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from depurate.triggers.effort import cell_of
from depurate.triggers.forms import Patch, Trigger, Warp, displacement, pasted, warped

# Prices of a cell of a patch, and of a cell of displacement, at the start, lowest and highest.
_PRICES, _WARP_PRICES = (1e-2, 1e-4, 0.3), (1e-1, 1e-3, 3.0)
# Knots of a warp along each side, as in the attack that introduced them.
_KNOTS = 4


class Candidates(Protocol):
    """Triggers of one form, one a goal."""

    @property
    def prices(self) -> tuple[float, float, float]:
        """Of a unit of size: at the start, lowest, highest."""

    @property
    def moved(self) -> list[dict[str, Any]]:
        """Parameters for the optimiser, with their rates as multiples of the search's."""

    def sizes(self) -> Tensor:
        """Size of each, shape (goals,)."""

    def on(self, images: Tensor) -> Tensor:
        """Put each on images (n, c, h, w): shape (goals, n, c, h, w)."""

    def taken(self, place: int, target: int) -> Trigger:
        """The candidate at a place as it is now."""


class PatchCandidates:
    """Masks and patterns behind sigmoids; masks begin at half of everything: wide first, then small.

    In large pictures they are made of cells: what is sought there is as large a part of the picture as in small ones.
    """

    def __init__(self, images: Tensor, count: int, generator: torch.Generator) -> None:
        self._low, self._high = value_range(images)
        channels, *self._sides = images.shape[1:]
        self._cell = cell_of(images)
        cells = [-(-side // self._cell) for side in self._sides]
        self._masks = images.new_zeros(count, 1, *cells).requires_grad_()
        start = 0.4 * torch.randn(count, channels, *cells, generator=generator)
        self._patterns = start.to(images).requires_grad_()

    @property
    def prices(self) -> tuple[float, float, float]:
        start, lowest, highest = (price / self._cell**2 for price in _PRICES)
        return start, lowest, highest

    @property
    def moved(self) -> list[dict[str, Any]]:
        return [{"params": self._masks, "times": 1.0}, {"params": self._patterns, "times": 4.0}]

    def sizes(self) -> Tensor:
        return self._mask().flatten(1).sum(1)

    def on(self, images: Tensor) -> Tensor:
        mask, pattern = self._mask()[:, None], self._pattern()[:, None]
        return pasted(images, mask, pattern)

    def taken(self, place: int, target: int) -> Patch:
        with torch.no_grad():
            return Patch(target, self._mask()[place], self._pattern()[place])

    def _mask(self) -> Tensor:
        return self._in_pixels(self._masks.sigmoid())

    def _pattern(self) -> Tensor:
        return self._low + (self._high - self._low) * self._in_pixels(self._patterns.sigmoid())

    def _in_pixels(self, cells: Tensor) -> Tensor:
        if self._cell == 1:
            return cells
        height, width = self._sides
        wide = cells.repeat_interleave(self._cell, 2).repeat_interleave(self._cell, 3)
        return wide[:, :, :height, :width]


class WarpCandidates:
    """Displacements in cells at the knots of coarse grids, from small random ones on."""

    def __init__(self, images: Tensor, count: int, generator: torch.Generator) -> None:
        self._cell = cell_of(images)
        start = 0.5 * torch.randn(count, 2, _KNOTS, _KNOTS, generator=generator)
        self._knots = start.to(images).requires_grad_()

    @property
    def prices(self) -> tuple[float, float, float]:
        start, lowest, highest = (price / self._cell for price in _WARP_PRICES)
        return start, lowest, highest

    @property
    def moved(self) -> list[dict[str, Any]]:
        return [{"params": self._knots, "times": 1 / 3}]

    def sizes(self) -> Tensor:
        return displacement(self._cell * self._knots)

    def on(self, images: Tensor) -> Tensor:
        return warped(images, self._cell * self._knots)

    def taken(self, place: int, target: int) -> Warp:
        return Warp(target, self._cell * self._knots[place].detach())


def value_range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each channel, shape (c, 1, 1) each."""
    channels = images.transpose(0, 1).flatten(1)
    return channels.amin(1)[:, None, None], channels.amax(1)[:, None, None]
