"""What can be proved of a candidate solution: duality gap, margin, uniqueness."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.solver._factors import inverse_length, shows_full_rank
from depurate.solver._masks import largest
from depurate.solver._problem import Problem

# A dual this close to its bound is on it: of the median of an even sample rounding leaves a margin of 1e-13.
STRICTLY = 1e-9
# Rounding of a dual, in units of the widest box, and what a span that is not quite the design's adds to it.
_ROUNDING, _OFF = 64 * torch.finfo(torch.float64).eps, 8.0
# A dual further inside than this, and rounding times this, is so whatever rows are met: lengths of L⁻¹ end there.
_NEAR, _LONGEST = 1e-4, 1e6
# Where weights are further apart than the first, what rounding leaves of Qᵀz (the second) matters to the smallest.
_UNEVEN, _DUST = 2.0**24, 8 * torch.finfo(torch.float64).eps
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
    takes the place of the last term; or, where R is so small that rounding in Bᵀz makes that large, Σ |Bᵀz − Rc|_k
    |c_k − c*_k| with a bound of the optimal c*.

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
        curved = 0.5 * defect.square() / problem.ridge
        straight = defect.abs() * (coefficients.abs() + _farthest(problem, objective)[:, None])
        error = torch.minimum(curved, straight).sum(1)
    slack = problem.losses(residuals) - residuals * dual
    if problem.smoothing is not None:
        # In this order: z² of a huge threshold would fall below the smallest number.
        slack = slack + 0.5 * (problem.smoothing * dual) * dual
    error = error + slack.sum(1)
    # Targets are of size one: an objective this small is none, and its error says enough.
    tiny = torch.finfo(error.dtype).tiny
    gap = torch.where(objective > tiny, error / objective.clamp_min(tiny), error)
    support = residuals.sign().abs_()
    reach = problem.reach(dual)
    margin = reach.addcmul_(reach, support, value=-1).amax(1)
    zeros = (residuals.shape[1] - support.sum(1)).long()
    return Certificate(objective, gap, margin, zeros, dual)


def _farthest(problem: Problem, objective: Tensor) -> Tensor:
    """Bound the length of optimal coefficients, shape (p,).

    ‖c*‖ = ‖Bc*‖ ≤ ‖y‖ + ‖e*‖₁, and with b the least box, b|e| − ½ s b² ≤ loss(e), whose sum no objective is below.
    """
    least = torch.minimum(problem.lower, problem.upper).amin(1).clamp_min(torch.finfo(objective.dtype).tiny)
    sum_of_residuals = objective / least
    if problem.smoothing is not None:
        sum_of_residuals = sum_of_residuals + 0.5 * least * problem.smoothing.expand_as(problem.targets).sum(
            1
        )
    bound: Tensor = torch.linalg.vector_norm(problem.targets, dim=1) + sum_of_residuals
    return bound


def strictly_convex(problem: Problem, proof: Certificate, tolerance: float) -> Tensor:
    """Tell where a smoothed or ridge problem has one solution, and the one proved is near it, shape (p,).

    Where rows whose dual is strictly inside its box have full rank, it does: smoothing curves there, or the residual is
    zero at every optimum. A ridge always curves, but a small one leaves much within the gap: ½ |c − c*|² times its
    least entry is at most the gap, and has to keep c − c* below √tolerance of the target.
    """
    if problem.size == 0:
        return torch.ones(len(proof.dual), dtype=torch.bool, device=proof.dual.device)
    inside = (problem.reach(proof.dual) < 1 - 1e-6).to(proof.dual.dtype)
    curved = shows_full_rank(*torch.linalg.cholesky_ex(replace(problem, ridge=None).gram(inside)))
    if problem.ridge is not None:
        unsure = proof.gap.clamp_min(torch.finfo(proof.gap.dtype).eps) * proof.objective
        curved |= 2 * unsure <= tolerance * problem.targets.square().sum(1) * problem.ridge.amin(1)
    return curved


def strictly_inside(problem: Problem, proof: Certificate, residuals: Tensor, doubt: float) -> Tensor:
    """Tell whose dual is inside its box on all rows of zero residual by more than rounding moves it, shape (p,).

    Feasible duals lie within rounding of the widest box, and of as much as the span may be off, over the least singular
    value of the rows Z of zero residual. Only where little room is left is that value asked for.

    Args:
        problem: The problems, p of them.
        proof: What is proved of them.
        residuals: Shape (p, d), zero where the fit is exact.
        doubt: Of the basis.
    """
    widest = torch.maximum(problem.upper, problem.lower)
    least = torch.minimum(problem.upper, problem.lower)
    moved = (_ROUNDING + _OFF * doubt) * widest.amax(1, keepdim=True)
    inside = proof.margin < 1 - STRICTLY
    farthest = _NEAR + _LONGEST * (moved / least).amax(1)
    close = (inside & (proof.margin >= 1 - farthest)).nonzero()[:, 0]
    if not close.numel():
        return inside
    part, zero = problem.take(close), residuals[close] == 0
    lower, info = torch.linalg.cholesky_ex(part.gram(zero.to(residuals.dtype)))
    moved = (moved if len(moved) == 1 else moved[close]) * inverse_length(lower, info)[:, None]
    room = STRICTLY + moved / torch.minimum(part.upper, part.lower)
    near = part.reach(proof.dual[close]) >= 1 - room
    inside[close] = ~(near & zero).any(1)
    return inside


def with_rounding(problem: Problem, proof: Certificate, coefficients: Tensor, doubt: float) -> Certificate:
    """Widen the gap by what rounding may hide: in the span, and in Qᵀz beside weights that are far apart.

    An optimal fit of the design itself is up to `doubt` of its length away from the span of Q, and z costs as much as
    its box is wide. With δ = Qᵀz the bound is off by δᵀ(c − c*) = (Qδ)ᵀ(e* − e) ≤ 2 max_i |(Qδ)_i|/b_i of the
    objective, b the box: nothing where boxes are alike.
    """
    if problem.ridge is not None or (problem.lower.numel() == 1 and not doubt):
        return proof
    widest = torch.maximum(problem.upper, problem.lower).amax(1)
    least = torch.minimum(problem.upper, problem.lower)
    relative = _DUST * widest * (problem.lengths / least).amax(1)
    error = torch.where(widest > _UNEVEN * least.amin(1), relative, 0.0).expand_as(proof.gap)
    if doubt:
        apart = doubt * widest * torch.linalg.vector_norm(coefficients, dim=1)
        tiny = torch.finfo(error.dtype).tiny
        error = error + torch.where(proof.objective > tiny, apart / proof.objective.clamp_min(tiny), 0.0)
    return replace(proof, gap=proof.gap + error)
