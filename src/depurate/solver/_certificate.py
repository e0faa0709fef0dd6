"""What can be proved of a candidate solution: duality gap, margin, uniqueness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._problem import Problem


@dataclass(frozen=True)
class Certificate:
    """Proved facts about candidate solutions, one entry a problem.

    Attributes:
        objective: Value of the loss.
        gap: (objective − dual value) / objective, an upper bound of the relative distance to the optimum.
        margin: Largest reach of the dual into its box over rows of zero residual; below 1: strictly inside.
        zeros: Number of rows of zero residual.
        dual: The feasible dual that proves the gap, shape (p, d).
    """

    objective: Tensor
    gap: Tensor
    margin: Tensor
    zeros: Tensor
    dual: Tensor


def certify(problem: Problem, coefficients: Tensor, residuals: Tensor, dual: Tensor) -> Certificate:
    """Gap and margin from any dual guess: project it on Qᵀz = 0, shrink it into the box, compare values.

    The gap is summed as Σ loss(e_i) − e_i z_i (each term nonnegative) plus |cᵀQᵀz|, so no large numbers
    cancel and the rounding error left in Qᵀz counts against the solution.

    Args:
        problem: The problems, p of them.
        coefficients: Shape (p, k).
        residuals: Shape (p, d), zero where the fit is exact.
        dual: Any guess of z, shape (p, d).
    """
    basis = problem.basis
    defect = dual @ basis
    if bool((defect.abs() > 1e-14).any()):
        dual = dual - defect @ basis.T
        defect = dual @ basis
    shrink = problem.reach(dual).amax(1).clamp_min(1.0)
    dual = dual / shrink[:, None]
    objective = problem.loss(residuals)
    slack = problem.upper * residuals.clamp_min(0) - problem.lower * residuals.clamp_max(0) - residuals * dual
    error = slack.sum(1) + ((coefficients * defect).sum(1) / shrink).abs()
    gap = torch.where(objective > 0, error / objective.clamp_min(torch.finfo(error.dtype).tiny), error)
    zero = residuals == 0
    margin = problem.reach(dual).masked_fill(~zero, 0.0).amax(1)
    return Certificate(objective, gap, margin, zero.sum(1), dual)
