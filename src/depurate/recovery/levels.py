"""What rounding leaves in weights, by kernel and by entry, and l1 that counts no more than that as zero."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver import Solution, lad

# Training of some hundred steps leaves errors of this many units in the last place of a weight.
_UNITS = 512
# The median of the absolute values of normal numbers, as a share of their deviation.
_MEDIAN = 0.6745
# What is off is off by this much more than expected, in one of some thousand kernels.
_SPREAD = 2.0
# Rows of an orthonormal basis below this are what rounding left of zeros: no patch reaches them.
UNREACHED = 1e-9


@dataclass(frozen=True)
class Rounding:
    """How far weights are from what training made of them before rounding.

    Attributes:
        update: Relative to a kernel's update: what arithmetic at that precision leaves at least.
        weights: Relative to an entry itself: what is left of rounding it at every step, or when it was stored.
        coarsest: Relative to a kernel's update, at most: beyond that nothing is called exact.
    """

    update: float
    weights: float
    coarsest: float


# Half precision is what networks are stored in, not trained in: half a unit for the weight, half for its anchor.
_OF = {
    torch.float64: Rounding(1e-11, _UNITS * torch.finfo(torch.float64).eps, 1e-7),
    torch.float32: Rounding(1e-5, _UNITS * torch.finfo(torch.float32).eps, 1e-3),
    torch.float16: Rounding(1e-2, torch.finfo(torch.float16).eps, 1e-2),
    torch.bfloat16: Rounding(5e-2, torch.finfo(torch.bfloat16).eps, 5e-2),
}


def rounding_for(*dtypes: torch.dtype) -> Rounding:
    """Give the rounding of weights that were stored so, of the coarsest of several.

    >>> rounding_for(torch.float32, torch.float16) == rounding_for(torch.float16)
    True
    """
    return coarsest(_OF.get(dtype, _OF[torch.float32]) for dtype in dtypes)


def coarsest(roundings: Iterable[Rounding]) -> Rounding:
    """Pick the coarsest; float32's where there is none."""
    return max(roundings, key=lambda some: some.update, default=_OF[torch.float32])


def as_rounding(rounding: float | Rounding, dtype: torch.dtype) -> Rounding:
    """Read a number as the rounding of updates, and take that of weights from the precision they are in.

    >>> as_rounding(1e-6, torch.float64).update
    1e-06
    """
    if isinstance(rounding, Rounding):
        return rounding
    return Rounding(rounding, _OF[dtype].weights, rounding)


@dataclass(frozen=True, eq=False)
class Levelled:
    """l1 in which differences of no more than rounding count as zero.

    Attributes:
        solution: Of the update, entries within rounding of the fit taken for what the fit says.
        level: Size below which a difference counted as zero, shape (d, p).
        coarsest: How far a kernel may be off relative to its update and still be called exact.
        lit: Rows that the design reaches, shape (d,), bool.
    """

    solution: Solution
    level: Tensor
    coarsest: float
    lit: Tensor

    def within(self, update: Tensor, fitted: Tensor, grown: Tensor) -> Tensor:
        """Tell whether the entries that count as zero say that the kernel is right up to its rounding.

        2 max(√d, g) ‖(y − A u)_Z‖ / √(|Z| − r) ≤ κ ‖A u‖ over the rows that A reaches: as far as the entries Z are from
        the fit, so are the others, hit and replaced, from what training made of them, by twice as much at most, or by
        as much more as they hang on faint directions, g. A kernel further off must not be called exact.

        Args:
            update: y, shape (d, p).
            fitted: A u, same shape, from all rows that count as zero.
            grown: g of `refit`, shape (p,).

        Returns:
            Shape (p,), bool.
        """
        left = (update - fitted).masked_fill(self.solution.residuals != 0, 0.0)
        size = torch.linalg.vector_norm(fitted, dim=0)
        spare = ((self.solution.residuals == 0)[self.lit].sum(0) - self.solution.rank).clamp_min(1)
        wide = torch.maximum(self.lit.sum().sqrt().to(grown), grown)
        share = _SPREAD * torch.linalg.vector_norm(left, dim=0) * wide / spare.sqrt()
        near: Tensor = share <= self.coarsest * size
        return near


def solve_levelled(
    design: Tensor,
    update: Tensor,
    anchor: Tensor,
    rounding: Rounding,
    *,
    patience: int = 100,
    method: str = "auto",
    weights: Tensor | None = None,
    reweight: int = 0,
    reach: Tensor | None = None,
) -> Levelled:
    """Solve min_u ‖y − A u‖₁ for updates whose rounding is known.

    A kernel's rounding is that of its weights over the size of its update, ω ‖w‖/‖y‖ over the rows that A reaches, but
    no less than the first number of `Rounding` and no more than the last. Where a row of A is faint even that is less
    than the rounding of the weight itself, ω |w_i|: entries so close to the fit are put on it, and those kernels are
    solved again.

    Args:
        design: A, shape (d, r). Rows of unreachable entries are exactly zero.
        update: y = θ − W(0), shape (d, p).
        anchor: W(0), same shape.
        rounding: Of the weights.
        patience: Iterations of the solver at most.
        method: As in `lad`.
        weights: w, shape (d, p), to solve min_u ‖w ∘ (y − A u)‖₁.
        reweight: As in `lad`.
        reach: Of the design as `reach_of` gives it, where that is known, as of one with orthonormal columns.

    Returns:
        What was found, and what counted as zero.

    >>> design = torch.tensor([[0.0], [0.5], [0.5], [0.5], [0.5]]).double()
    >>> update = torch.tensor([[1e-17], [1.0], [1.0], [1.0], [3.0]]).double()
    >>> found = solve_levelled(design, update, torch.ones_like(update), rounding_for(torch.float64))
    >>> (found.solution.residuals != 0)[:, 0].tolist()
    [False, False, False, False, True]
    """
    reach = reach_of(design) if reach is None else reach
    told = update if weights is None else update.masked_fill(weights == 0, torch.nan)
    kernels = _of_kernels(reach, told, anchor, rounding)

    def solve(targets: Tensor, rows: Tensor | slice = slice(None)) -> Solution:
        return lad(
            design,
            targets,
            method=method,
            weights=None if weights is None else weights[:, rows],
            reweight=reweight,
            rounding=kernels[rows],
            max_iterations=patience,
        )

    solution = solve(update)
    finest = rounding.weights * torch.maximum(anchor.abs(), (anchor + solution.fitted).abs())
    residuals = solution.residuals
    moved = torch.where(residuals.abs() <= finest, residuals, 0.0)
    rows = (moved != 0).any(0).nonzero()[:, 0]
    if rows.numel():
        solution = solution.with_some(rows, solve((update - moved)[:, rows], rows))
    size = torch.linalg.vector_norm(solution.fitted, dim=0)
    level = kernels * (update.abs() + reach[:, None] * size)
    level[:, rows] = torch.maximum(level, finest)[:, rows]
    return Levelled(solution, level, rounding.coarsest, reach > UNREACHED)


def reach_of(design: Tensor) -> Tensor:
    """How far the columns of a design reach into each row: norms of the rows of an orthonormal basis, shape (d,).

    >>> reach_of(torch.tensor([[3.0], [4.0], [0.0]]))
    tensor([0.6000, 0.8000, 0.0000])
    """
    left, sizes, _ = torch.linalg.svd(design.double(), full_matrices=False)
    kept = sizes > sizes[:1] * len(design) * torch.finfo(design.dtype).eps
    reach: Tensor = torch.linalg.vector_norm(left[:, kept], dim=1).to(design)
    return reach


def _of_kernels(reach: Tensor, update: Tensor, anchor: Tensor, rounding: Rounding) -> Tensor:
    """Rounding of every kernel relative to its update, shape (p,), by the entries that are numbers."""
    lit = reach > UNREACHED
    if not bool(lit.any()):
        return torch.full_like(anchor[0], rounding.update)
    # The median sees an update's size under noise on less than half of it.
    size = update[lit].abs().nanmedian(0).values / _MEDIAN
    weights = anchor[lit].square().mean(0).sqrt()
    # The solver's level is relative to an entry, and to the fit, which is √rank times that on average.
    share = rounding.weights * weights / (size * (1 + reach.square().sum().sqrt()))
    most = max(rounding.update, rounding.coarsest)
    return share.nan_to_num(0.0, posinf=most).clamp(rounding.update, most)
