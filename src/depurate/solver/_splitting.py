"""Operator splitting for many targets at once: alternating direction method of multipliers on min ‖w‖₁, w = y − Qc.

Boyd, Parikh, Chu, Peleato & Eckstein, Distributed optimization and statistical learning via the alternating direction
method of multipliers (2011), section 6.1, over-relaxed. It never gets exact, but in a hundred products it knows nearly
all rows that the solution passes through.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._problem import Problem
from depurate.solver._start import Start

_RELAXATION = 1.7
# Penalty in units of one over the median residual of least squares.
_PENALTY = 2.0
# Room in the dual's box below which a row is not taken for one that the solution passes through.
_ROOM = 1e-3


@dataclass(frozen=True)
class Splitting:
    """A splitting under way, in single precision, one row a problem.

    Attributes:
        targets: In units of the penalty, shape (p, d).
        miss: y − Qc before it was split, shape (p, d).
        spread: w, zero on many rows, shape (p, d).
        dual: Inside the box but Qᵀz only near zero, shape (p, d).
    """

    targets: Tensor
    miss: Tensor
    spread: Tensor
    dual: Tensor

    def take(self, chosen: Tensor) -> Splitting:
        """Pick the given problems."""
        return Splitting(self.targets[chosen], self.miss[chosen], self.spread[chosen], self.dual[chosen])

    def put(self, rows: Tensor, other: Splitting) -> None:
        """Store the state of the given problems."""
        self.miss[rows], self.spread[rows], self.dual[rows] = other.miss, other.spread, other.dual


@dataclass(frozen=True)
class Split:
    """What the splitting knows of the solutions, one entry a problem.

    Attributes:
        likeliest: As many rows as there are coefficients, those that the solution most likely passes through; shape
            (p, k).
        zero: Rows whose residual the splitting has set to zero, shape (p, d), bool.
        dual: Its dual, inside the box but Qᵀz only near zero, shape (p, d).
    """

    likeliest: Tensor
    zero: Tensor
    dual: Tensor

    def take(self, chosen: Tensor) -> Split:
        """Pick the given problems."""
        return Split(self.likeliest[chosen], self.zero[chosen], self.dual[chosen])


def begin(problem: Problem, start: Start | None = None) -> Splitting:
    """Begin at zero or at a start, the penalty set by the residuals of least squares.

    Args:
        problem: The problems, p of them, without columns of their own.
        start: Where its rows are zero its residuals are taken for zero; its dual is taken as it is.
    """
    basis, targets = problem.basis.float(), problem.targets.float()
    rest = torch.addmm(targets, targets @ basis, basis.T, alpha=-1).abs_()
    middle = rest.median(1, keepdim=True).values
    middle = torch.where(middle > 0, middle, rest.mean(1, keepdim=True)).clamp_min_(
        torch.finfo(rest.dtype).tiny
    )
    scaled = targets * (_PENALTY / middle)
    if start is None:
        nothing = torch.zeros_like(targets)
        return Splitting(scaled, scaled, nothing, nothing)
    rest = torch.addmm(targets, start.coefficients.float(), basis.T, alpha=-1).mul_(_PENALTY / middle)
    return Splitting(scaled, rest, rest.masked_fill(start.zero, 0.0), start.dual.to(rest, copy=True))


def advance(problem: Problem, splitting: Splitting, steps: int) -> Splitting:
    """Take further steps, at one product with QQᵀ in single precision each."""
    basis, targets = problem.basis.float(), splitting.targets
    upper, lower = problem.upper.float(), problem.lower.float()
    miss, spread, dual = splitting.miss, splitting.spread, splitting.dual
    for _ in range(steps):
        goal = torch.sub(targets, spread).add_(dual)
        miss = torch.addmm(targets, goal @ basis, basis.T, alpha=-1)
        point = torch.lerp(spread, miss, _RELAXATION).add_(dual)
        dual = torch.minimum(torch.maximum(point, -lower), upper)
        spread = point.sub_(dual)
    return Splitting(targets, miss, spread, dual)


def read(problem: Problem, splitting: Splitting) -> Split:
    """Tell which rows the solutions most likely pass through."""
    upper, lower, dual = problem.upper.float(), problem.lower.float(), splitting.dual
    room = torch.minimum(upper - dual, lower + dual) / torch.minimum(upper, lower)
    score = splitting.miss.abs().div_(room.add_(_ROOM))
    rows = score.topk(problem.size, dim=1, largest=False).indices.sort(1).values
    return Split(rows, splitting.spread == 0, dual.to(problem.targets.dtype))
