"""What can be proved of a candidate solution: duality gap, margin, uniqueness."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._masks import largest
from depurate.solver._problem import Problem

# Above this size a pivot of the Cholesky factor says that rows have full rank.
_PIVOT = 1e-6
# Where Qᵀz is below this share of z, and what it costs below that share of the objective, z needs no projection.
_DEFECT, _WEIGHT = 1e-12, 1e-11


@dataclass(frozen=True)
class Certificate:
    """Proved facts about candidate solutions, one entry a problem.

    Attributes:
        objective: Value of the objective.
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
    """Gap and margin from any dual guess: make it feasible, compare values.

    Without a ridge z is projected on Bᵀz = 0 and shrunk into the box, and the gap is summed as Σ loss(e_i) +
    ½ s z_i² − e_i z_i (each term nonnegative) plus |cᵀBᵀz|, so no large numbers cancel and the rounding error left in
    Bᵀz counts against the solution. With a ridge any z in the box is feasible for m = R⁻¹Bᵀz, and ½ (c − m)ᵀR(c − m)
    takes the place of the last term.

    Args:
        problem: The problems, p of them.
        coefficients: Shape (p, k).
        residuals: Shape (p, d), zero where the fit is exact.
        dual: Any guess of z, shape (p, d).
    """
    objective = problem.objective(coefficients, residuals)
    if problem.ridge is None:
        defect = problem.adjoint(dual)
        weight = (coefficients * defect).abs_().sum(1)
        loose = (largest(defect) > _DEFECT * largest(dual)) | (weight > _WEIGHT * objective)
        loose = loose.nonzero()[:, 0]
        if loose.numel() == len(dual):
            dual = dual - problem.fit(defect)
            defect = problem.adjoint(dual)
        elif loose.numel():
            part = problem.take(loose)
            better = dual[loose] - part.fit(defect[loose])
            dual = dual.index_copy(0, loose, better)
            defect = defect.index_copy(0, loose, part.adjoint(better))
        shrink = problem.reach(dual).amax(1).clamp_min(1.0)
        dual = dual / shrink[:, None]
        error = ((coefficients * defect).sum(1) / shrink).abs()
    else:
        dual = torch.minimum(torch.maximum(dual, -problem.lower), problem.upper)
        defect = problem.adjoint(dual) - problem.pull(coefficients)
        error = 0.5 * (defect.square() / problem.ridge).sum(1)
    slack = problem.losses(residuals) - residuals * dual
    if problem.smoothing is not None:
        slack = slack + 0.5 * problem.smoothing * dual.square()
    error = error + slack.sum(1)
    # Targets are of size one: an objective this small is none, and its error says enough.
    tiny = torch.finfo(error.dtype).tiny
    gap = torch.where(objective > tiny, error / objective.clamp_min(tiny), error)
    support = residuals.sign().abs_()
    reach = problem.reach(dual)
    margin = reach.addcmul_(reach, support, value=-1).amax(1)
    zeros = (residuals.shape[1] - support.sum(1)).long()
    return Certificate(objective, gap, margin, zeros, dual)


def strictly_convex(problem: Problem, dual: Tensor) -> Tensor:
    """Tell where a smoothed or ridge problem curves in every direction at its solution, shape (p,).

    A ridge always does; smoothing does on the rows strictly inside the box, which must then have full rank.
    """
    if problem.ridge is not None or problem.size == 0:
        return torch.ones(dual.shape[0], dtype=torch.bool, device=dual.device)
    inside = (problem.reach(dual) < 1 - 1e-6).to(dual.dtype)
    factor, info = torch.linalg.cholesky_ex(problem.gram(inside))
    curved: Tensor = (info == 0) & (factor.diagonal(dim1=1, dim2=2).amin(1) > _PIVOT)
    return curved
