"""Trimming: least squares on ever fewer rows, until the rows left are fitted exactly, then the dual on them.

Sparse noise leaves most rows exact. Each round solves least squares on the rows whose residual is small and lowers
the threshold to a multiple of their mean residual; once no hit row is left, the error falls as fast as conjugate
gradients go. All matrix products are with the shared basis, so every step serves all problems at once. Nothing
here assumes that the rounds succeed: the dual decides, and what it does not accept is left to other methods.
"""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver._krylov import conjugate_gradients, smallest_eigenvalue
from depurate.solver._problem import Problem
from depurate.solver._vertex import Candidate, Vertex

# Threshold in units of the mean residual of the rows kept. At 1.5 good rows are lost at every round, at 3 hit
# rows stay longer.
_KEEP = 2.5
_ROUNDS, _FINE_ROUNDS, _DUAL_ROUNDS = 16, 6, 10
_LAST = 3
# Steps of conjugate gradients in a coarse, a fine and a dual round, and of Lanczos for the smallest eigenvalue.
_COARSE, _FINE, _DUAL, _PROBE = 3, 6, 8, 7
# A threshold this small against the fit is near the end of single precision: go on in double.
_SINGLE = 3e-4
# Rows fitted must leave the Gram matrix (whose eigenvalues are at most 1) no eigenvalue below this.
_EIGENVALUE = 0.02
# Trimming in double precision goes on until the rows kept are below the zero level by this factor.
_WELL = 0.1
# A dual is sought with its free entries kept to this share of the box, so that it proves uniqueness.
_INSIDE = 0.98
# Defects Qᵀz below this cost the gap less than its tolerance.
_DEFECT = 1e-10


def solve_trimming(problem: Problem, tolerance: float, max_iterations: int) -> Candidate:
    """Find the rows of zero residual by trimming, verify them by a dual; problems that fail stay unsolved.

    Args:
        problem: The problems, p of them.
        tolerance: Not used: an accepted solution is exact to rounding.
        max_iterations: Rounds at most of each phase.
    """
    single = problem.basis.float()
    done = Candidate.start(problem)
    coefficients, rows, used = _coarse(problem, single, min(max_iterations, _ROUNDS))
    done.iterations[:] = used
    if not rows.numel():
        return done
    part = problem.take(rows)
    coefficients, residuals, settled = _fine(part, single, coefficients, min(max_iterations, _FINE_ROUNDS))
    rows, part = rows[settled], part.take(settled)
    coefficients, residuals = coefficients[settled], residuals[settled]
    if rows.numel():
        dual, proved = complete_dual(part, single, residuals, min(max_iterations, _DUAL_ROUNDS))
        proved &= smallest_eigenvalue(single, (residuals == 0).float(), _PROBE) > _EIGENVALUE
        done.put(rows[proved], Vertex(coefficients, residuals, dual, proved), proved, used)
    return done


def _coarse(problem: Problem, single: Tensor, limit: int) -> tuple[Tensor, Tensor, int]:
    """Trim in single precision: coefficients of the problems still in the race, which they are, rounds spent."""
    rank, count = single.shape[1], single.shape[0]
    targets = problem.targets.float()
    found = targets @ single
    racing = torch.ones_like(found[:, 0], dtype=torch.bool)
    rows, coefficients = torch.arange(targets.shape[0], device=targets.device), found
    residuals = torch.addmm(targets, coefficients, single.T, alpha=-1)
    threshold = _KEEP * residuals.abs().mean(1, keepdim=True)
    used = 0
    while rows.numel() and used < limit:
        used += 1
        kept = (residuals.abs() < threshold).float()
        move = conjugate_gradients(single, kept, (kept * residuals) @ single, _COARSE)
        coefficients = coefficients + move
        residuals = torch.addmm(targets, coefficients, single.T, alpha=-1)
        left = kept.sum(1, keepdim=True)
        threshold = _KEEP * (kept * residuals).abs_().sum(1, keepdim=True) / left.clamp_min(1)
        fit = torch.linalg.vector_norm(coefficients, dim=1, keepdim=True) / count**0.5
        found[rows] = coefficients
        racing[rows] = left[:, 0] > rank
        going = (racing[rows] & (threshold > _SINGLE * fit)[:, 0]).nonzero()[:, 0]
        rows, targets, coefficients = rows[going], targets[going], coefficients[going]
        residuals, threshold = residuals[going], threshold[going]
    chosen = racing.nonzero()[:, 0]
    return found[chosen].to(problem.targets.dtype), chosen, used


def _fine(
    problem: Problem, single: Tensor, coefficients: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Trim with double precision residuals until the rows kept vanish: coefficients, residuals, who settled."""
    coefficients, residuals = coefficients.clone(), problem.residuals(coefficients)
    rows, part, rest = torch.arange(len(coefficients), device=coefficients.device), problem, residuals
    threshold = _KEEP * rest.abs().median(1, keepdim=True).values
    for _ in range(limit):
        guess, size = coefficients[rows], rest.abs()
        kept = (size <= torch.maximum(threshold, part.zero_level(guess))).float()
        guess = guess + conjugate_gradients(single, kept, (kept * rest) @ part.basis, _FINE)
        rest = part.residuals(guess)
        coefficients[rows], residuals[rows], size = guess, rest, rest.abs()
        threshold = _KEEP * (kept * size).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1)
        going = ((kept > 0) & (size > _WELL * part.zero_level(guess))).any(1).nonzero()[:, 0]
        if not going.numel():
            break
        rows, part, rest, threshold = rows[going], part.take(going), rest[going], threshold[going]
    # What is below the level is not yet as small as it can be: one more step for all.
    kept = (residuals.abs() <= problem.zero_level(coefficients)).float()
    coefficients += conjugate_gradients(single, kept, (kept * residuals) @ problem.basis, _LAST)
    residuals = problem.residuals(coefficients)
    small = residuals.abs() <= problem.zero_level(coefficients)
    settled = (small.sum(1) >= problem.basis.shape[1]).nonzero()[:, 0]
    return coefficients, residuals.masked_fill_(small, 0.0), settled


def complete_dual(problem: Problem, single: Tensor, residuals: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Complete the signs of the residuals to a z with Qᵀz = 0, of least norm with its free entries in the box.

    A semismooth Newton method: z = clip(q_iᵀ m) on the rows of zero residual, m solves Qᵀz = 0, and each step
    solves on the rows that are not clipped.

    Args:
        problem: The problems, p of them.
        single: The basis in single precision.
        residuals: Shape (p, d), exactly zero on the rows fitted.
        limit: Newton steps at most.

    Returns:
        z of shape (p, d), and which of them are accepted.
    """
    dual, zero = problem.signs(residuals), residuals == 0
    proved = torch.zeros_like(dual[:, 0], dtype=torch.bool)
    # The first solve needs no double precision.
    move = conjugate_gradients(single, zero.float(), dual.float() @ single, _DUAL)
    force = (move @ single.T).neg_().to(dual.dtype)
    rows, part = torch.arange(len(dual), device=dual.device), problem
    for _ in range(limit):
        upper, lower = _INSIDE * part.upper, -_INSIDE * part.lower
        free = zero & (force < upper) & (force > lower)
        guess = torch.where(zero, torch.minimum(torch.maximum(force, lower), upper), dual[rows])
        right = guess @ part.basis
        dual[rows] = guess
        defect = right.abs().amax(1)
        proved[rows] = defect <= _DEFECT
        # Too few free rows make a solve break down; what is not finite any more is given up.
        going = ((defect > _DEFECT) & defect.isfinite()).nonzero()[:, 0]
        if not going.numel():
            break
        if going.numel() < rows.numel():
            rows, part, zero, free = rows[going], part.take(going), zero[going], free[going]
            force, right = force[going], right[going]
        move = conjugate_gradients(single, free.float(), right, _DUAL)
        force = torch.addmm(force, move, part.basis.T, alpha=-1)
    return dual, proved
