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

_RELAXATION = 1.7
# Penalty in units of one over the median residual of least squares.
_PENALTY = 2.0
# Room in the dual's box below which a row is not taken for one that the solution passes through.
_ROOM = 1e-3


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


def split_rows(problem: Problem, steps: int) -> Split:
    """Run the splitting in single precision, at one product with QQᵀ a step.

    Args:
        problem: The problems, p of them, without columns of their own.
        steps: Steps.
    """
    basis, targets = problem.basis.float(), problem.targets.float()
    upper, lower = problem.upper.float(), problem.lower.float()
    rest = torch.addmm(targets, targets @ basis, basis.T, alpha=-1).abs_()
    middle = rest.median(1, keepdim=True).values
    middle = torch.where(middle > 0, middle, rest.mean(1, keepdim=True)).clamp_min_(
        torch.finfo(rest.dtype).tiny
    )
    targets = targets * (_PENALTY / middle)
    spread, dual = torch.zeros_like(targets), torch.zeros_like(targets)
    miss = targets
    for _ in range(steps):
        goal = torch.sub(targets, spread).add_(dual)
        miss = torch.addmm(targets, goal @ basis, basis.T, alpha=-1)
        point = torch.lerp(spread, miss, _RELAXATION).add_(dual)
        dual = torch.minimum(torch.maximum(point, -lower), upper)
        spread = point.sub_(dual)
    room = torch.minimum(upper - dual, lower + dual) / torch.minimum(upper, lower)
    score = miss.abs_().div_(room.add_(_ROOM))
    rows = score.topk(problem.size, dim=1, largest=False).indices.sort(1).values
    return Split(rows, spread == 0, dual.to(problem.targets.dtype))
