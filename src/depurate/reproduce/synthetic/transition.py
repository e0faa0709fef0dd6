"""The ε at which recovery of each weight vector breaks, found with few solves because failure is monotone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.paper import undo
from depurate.reproduce.synthetic.noise import NestedNoise

EXACT = 1e-8
"""Relative error up to which a weight vector counts as exactly recovered."""


@dataclass(frozen=True)
class Breaks:
    """Where recovery of each weight vector breaks, on a grid of ε.

    Attributes:
        exact: Number of grid points at which it is exact, from the smallest on, one a weight vector.
        certified: The same of its certificate.
        false: Solutions that were certified and not exact: 0 unless the noise knows the design.
        solved: l1 problems solved.
    """

    exact: tuple[int, ...]
    certified: tuple[int, ...]
    false: int
    solved: int


def find_breaks(
    design: Tensor, clean: Tensor, anchor: Tensor, noise: NestedNoise, grid: tuple[float, ...], guess: float
) -> Breaks:
    """Find the largest ε of a grid at which every weight vector is recovered.

    Supports are nested, so exactness at one ε implies it at every smaller one; the same holds for the existence of
    a strict dual, which is what a certificate shows. All weight vectors are solved at once, each at its own ε.

    Args:
        design: A, shape (d, r).
        clean: Shape (d, p).
        anchor: Shape (d, p).
        noise: Of the same shape.
        grid: ε, ascending.
        guess: Where to look first.
    """
    count, last = clean.shape[1], len(grid)
    levels = torch.tensor(grid, dtype=clean.dtype)
    start = min(max(int(torch.searchsorted(levels, guess)) - 1, 0), last - 1)
    low, high = torch.full((count,), -1), torch.full((count,), last)
    proved = torch.full((count,), -1)
    at, false, solved = torch.full((count,), start), 0, 0
    while True:
        open_ = (high - low > 1).nonzero()[:, 0]
        if not open_.numel():
            break
        here = at[open_]
        truth, origin = clean[:, open_], anchor[:, open_]
        found = undo(design, truth + noise.take(open_).at(levels[here]), origin)
        error = (found.weights - truth).norm(dim=0) / truth.norm(dim=0)
        exact = error <= EXACT
        false += int((found.certified & ~exact).sum())
        solved += len(open_)
        low[open_] = torch.where(exact, here, low[open_])
        high[open_] = torch.where(exact, high[open_], here)
        proved[open_] = torch.where(
            found.certified & exact, torch.maximum(proved[open_], here), proved[open_]
        )
        at = _next(low, high, last)
    return Breaks(tuple((low + 1).tolist()), tuple((proved + 1).tolist()), false, solved)


def _next(low: Tensor, high: Tensor, last: int) -> Tensor:
    """Two steps on while only one side is known, the middle afterwards."""
    onward = torch.minimum(low + 2, high - 1)
    back = torch.maximum(high - 4, low + 1)
    middle = torch.div(low + high, 2, rounding_mode="floor")
    chosen = torch.where(high == last, onward, torch.where(low == -1, back, middle))
    return chosen.clamp(0, last - 1)
