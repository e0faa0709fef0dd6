"""Many pivots at once: the rows in doubt as a small simplex tableau, for many targets.

At a vertex only few rows are in doubt: those on it whose dual is near or past its box, and those off it whose residual
is small. With all others held as they are, what is left is a least absolute deviations problem as small as that doubt;
its tableau is made by one solve with the factors of the vertex, and a pivot changes nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# A dual beyond its box by no more than this share of it is inside; a pivot smaller than the other is none.
_OUTSIDE, _PIVOT = 1e-5, 1e-5


@dataclass(frozen=True)
class Tableau:
    """Small problems min Σ_i loss(e_i) + Σ_j loss(t_j) + hᵀt, e = e⁰ + T t, at t = 0; one each target.

    Attributes:
        body: [[T, e⁰], [h, ·]], shape (p, n + 1, m + 1).
        outer: Names of the rows i, shape (p, n).
        inner: Names of the columns j, shape (p, m).
        outer_lower, outer_upper: Slopes of their losses, shape (p, n) or (1, 1).
        inner_lower, inner_upper: Slopes of theirs, shape (p, m) or (1, 1).
    """

    body: Tensor
    outer: Tensor
    inner: Tensor
    outer_lower: Tensor
    outer_upper: Tensor
    inner_lower: Tensor
    inner_upper: Tensor

    def take(self, chosen: Tensor) -> Tableau:
        """Pick the given problems."""
        boxes = (self.outer_lower, self.outer_upper, self.inner_lower, self.inner_upper)
        return Tableau(
            self.body[chosen],
            self.outer[chosen],
            self.inner[chosen],
            *(box if box.numel() == 1 else box[chosen] for box in boxes),
        )

    def put(self, rows: Tensor, other: Tableau) -> None:
        """Store other problems in place of the given ones."""
        self.body[rows] = other.body
        self.outer[rows], self.inner[rows] = other.outer, other.inner
        if self.outer_lower.numel() > 1:
            self.outer_lower[rows], self.outer_upper[rows] = other.outer_lower, other.outer_upper
            self.inner_lower[rows], self.inner_upper[rows] = other.inner_lower, other.inner_upper

    def pull(self) -> Tensor:
        """Give the slope in t of all but the losses of t, shape (p, m); at the optimum the dual is minus that."""
        signs = self.body[:, :-1, -1].sign()
        signs = (signs.clamp_min(0) * self.outer_upper).addcmul_(signs.clamp_max(0), self.outer_lower)
        return (signs[:, None] @ self.body[:, :-1, :-1])[:, 0].add_(self.body[:, -1, :-1])


def solve_tableau(tableau: Tableau, limit: int) -> Tableau:
    """Descend to the optimum of every small problem by Barrodale and Roberts' pivots.

    Args:
        tableau: The problems; its tensors are overwritten.
        limit: Pivots at most; problems that are not done by then are given as they are.
    """
    alive, part = torch.arange(len(tableau.inner), device=tableau.inner.device), tableau
    for _ in range(limit):
        leaving, side, start = _worst(part)
        length, entering = _search(part, leaving, side, start)
        stop = (start >= 0) | ~length.isfinite()
        if 2 * int(stop.sum()) >= len(alive):
            if part is not tableau:
                tableau.put(alive, part)
            going = (~stop[:, 0]).nonzero()[:, 0]
            alive, part = alive[going], part.take(going)
            leaving, entering, stop = leaving[going], entering[going], stop[going]
        if not alive.numel():
            return tableau
        _exchange(part, leaving, entering, stop)
    if part is not tableau:
        tableau.put(alive, part)
    return tableau


def _worst(tableau: Tableau) -> tuple[Tensor, Tensor, Tensor]:
    """Find the column whose dual is farthest outside: its place, the side to move to, the slope of the loss there."""
    # Slopes of the loss in +t and in −t, in units of the box.
    pull = tableau.pull()
    up, down = pull / tableau.inner_upper, pull / tableau.inner_lower
    beyond, leaving = torch.maximum(-up, down).max(1, keepdim=True)
    side = -pull.gather(1, leaving).sign()
    box = torch.where(side > 0, tableau.inner_upper, tableau.inner_lower)
    box = box if box.shape[1] == 1 else box.gather(1, leaving)
    return leaving, side, torch.where(beyond > 1 + _OUTSIDE, (1 - beyond) * box, 0.0)


def _search(tableau: Tableau, leaving: Tensor, side: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Follow the edge until the loss rises: its length (infinite if never), the row hit."""
    columns = leaving[:, None].expand(-1, tableau.outer.shape[1], 1)
    slope = tableau.body[:, :-1].gather(2, columns)[:, :, 0] * side
    size = slope.abs()
    length = -tableau.body[:, :-1, -1] / slope
    length = torch.where((length >= 0) & (size > _PIVOT), length, torch.inf)
    ordered, order = length.sort(1)
    jump = (size * (tableau.outer_upper + tableau.outer_lower)).gather(1, order).cumsum_(1)
    # Where it never rises, the rows that were held are to blame: the last row crossed is as far as is known.
    last = (length.isfinite().sum(1, keepdim=True) - 1).clamp_min_(0)
    hit = (jump + start < 0).sum(1, keepdim=True).minimum(last)
    return ordered.gather(1, hit), order.gather(1, hit)


def _exchange(tableau: Tableau, leaving: Tensor, entering: Tensor, idle: Tensor) -> None:
    """Exchange a column and a row of every tableau that is not idle, in place."""
    body, count = tableau.body, torch.arange(len(leaving), device=leaving.device)
    column, row = body[count, :, leaving[:, 0]], body[count, entering[:, 0]]
    pivot = row.gather(1, leaving)
    scale = torch.where(idle, 0.0, 1 / pivot)
    # With these two changed the outer product makes the row −T/pivot, the column T/pivot and their crossing 1/pivot.
    column.scatter_add_(1, entering, torch.ones_like(pivot))
    row.scatter_add_(1, leaving, -torch.ones_like(pivot))
    body.baddbmm_((column * scale)[:, :, None], row[:, None], alpha=-1)
    pairs = [(tableau.inner, tableau.outer)]
    if tableau.inner_lower.numel() > 1:
        pairs += [(tableau.inner_lower, tableau.outer_lower), (tableau.inner_upper, tableau.outer_upper)]
    for inner, outer in pairs:
        old, new = inner.gather(1, leaving), outer.gather(1, entering)
        inner.scatter_(1, leaving, torch.where(idle, old, new))
        outer.scatter_(1, entering, torch.where(idle, new, old))
