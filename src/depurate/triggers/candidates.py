"""Triggers while they are searched for: one a goal, all in one batch, with the parameters that descent moves."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from depurate.triggers.forms import Patch, Trigger, Warp, displacement, warped

# Knots of a warp along each side, as in the attack that introduced them.
_KNOTS = 4


class Candidates(Protocol):
    """Triggers of one form, one a goal."""

    prices: tuple[float, float, float]
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
    """Masks and patterns behind sigmoids; masks begin at half of everything: wide first, then small."""

    prices = (1e-2, 1e-4, 0.3)

    def __init__(self, images: Tensor, count: int, generator: torch.Generator) -> None:
        self._low, self._high = value_range(images)
        channels, height, width = images.shape[1:]
        self._masks = images.new_zeros(count, 1, height, width).requires_grad_()
        start = 0.4 * torch.randn(count, channels, height, width, generator=generator)
        self._patterns = start.to(images).requires_grad_()

    @property
    def moved(self) -> list[dict[str, Any]]:
        return [{"params": self._masks, "times": 1.0}, {"params": self._patterns, "times": 4.0}]

    def sizes(self) -> Tensor:
        return self._masks.sigmoid().flatten(1).sum(1)

    def on(self, images: Tensor) -> Tensor:
        mask, pattern = self._masks.sigmoid()[:, None], self._pattern()[:, None]
        return (1 - mask) * images + mask * pattern

    def taken(self, place: int, target: int) -> Patch:
        with torch.no_grad():
            return Patch(target, self._masks[place].sigmoid(), self._pattern()[place])

    def _pattern(self) -> Tensor:
        return self._low + (self._high - self._low) * self._patterns.sigmoid()


class WarpCandidates:
    """Displacements at the knots of coarse grids, from small random ones on."""

    prices = (1e-1, 1e-3, 3.0)

    def __init__(self, images: Tensor, count: int, generator: torch.Generator) -> None:
        start = 0.5 * torch.randn(count, 2, _KNOTS, _KNOTS, generator=generator)
        self._knots = start.to(images).requires_grad_()

    @property
    def moved(self) -> list[dict[str, Any]]:
        return [{"params": self._knots, "times": 1 / 3}]

    def sizes(self) -> Tensor:
        return displacement(self._knots)

    def on(self, images: Tensor) -> Tensor:
        return warped(images, self._knots)

    def taken(self, place: int, target: int) -> Warp:
        return Warp(target, self._knots[place].detach().clone())


def value_range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest value of each channel, shape (c, 1, 1) each."""
    channels = images.transpose(0, 1).flatten(1)
    return channels.amin(1)[:, None, None], channels.amax(1)[:, None, None]
