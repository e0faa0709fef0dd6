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

# Threshold in units of the mean residual of the rows kept. Below 2 good rows are lost at every round, above 4 hit
# rows stay too long.
_KEEP = 2.5
_ROUNDS, _FINE_ROUNDS, _DUAL_ROUNDS = 16, 6, 10
_LAST = 3
# Steps of conjugate gradients in a coarse, a fine and a dual round, and of Lanczos for the smallest eigenvalue.
_COARSE, _FINE, _DUAL, _PROBE = 3, 6, 7, 8
# A threshold this small against the fit is near the end of single precision: go on in double.
_SINGLE = 3e-4
# Rows fitted must leave the Gram matrix (whose eigenvalues are at most 1) no eigenvalue below this.
_EIGENVALUE = 0.02
# A dual is sought with its free entries kept to this share of the box, so that it proves uniqueness.
_INSIDE = 0.98
# Defects Qᵀz below this cost the gap less than its tolerance.
_DEFECT = 1e-11


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
    """Trim in single precision: coefficients, the problems still in the race, and the rounds spent."""
    rank, count = single.shape[1], single.shape[0]
    targets = problem.targets.float()
    rows = torch.arange(targets.shape[0], device=targets.device)
    coefficients = targets @ single
    residuals = torch.addmm(targets, coefficients, single.T, alpha=-1)
    threshold = _KEEP * residuals.abs().mean(1, keepdim=True)
    used, coarse = 0, True
    while coarse and used < limit:
        used += 1
        kept = (residuals.abs() < threshold).float()
        alive = kept.sum(1) > rank
        if not bool(alive.all()):
            rows, targets, coefficients, residuals, threshold, kept = (
                tensor[alive] for tensor in (rows, targets, coefficients, residuals, threshold, kept)
            )
        coefficients = coefficients + conjugate_gradients(single, kept, (kept * residuals) @ single, _COARSE)
        residuals = torch.addmm(targets, coefficients, single.T, alpha=-1)
        mean = (kept * residuals).abs_().sum(1, keepdim=True) / kept.sum(1, keepdim=True)
        threshold = _KEEP * mean
        fit = torch.linalg.vector_norm(coefficients, dim=1, keepdim=True) / count**0.5
        coarse = bool((threshold > _SINGLE * fit).any())
    return coefficients.to(problem.targets.dtype), rows, used


def _fine(
    problem: Problem, single: Tensor, coefficients: Tensor, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Trim with double precision residuals until the rows kept vanish: coefficients, residuals, who settled."""
    residuals = problem.residuals(coefficients)
    size = residuals.abs()
    threshold = _KEEP * size.median(1, keepdim=True).values
    for _ in range(limit):
        kept = (size <= torch.maximum(threshold, problem.zero_level(coefficients))).float()
        right = (kept * residuals) @ problem.basis
        coefficients = coefficients + conjugate_gradients(single, kept, right, _FINE)
        residuals = problem.residuals(coefficients)
        size = residuals.abs()
        threshold = _KEEP * (kept * size).sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1)
        small = size <= problem.zero_level(coefficients)
        if bool((small | (kept == 0)).all()):
            break
    # What is below the level is not yet as small as it can be: one more step for all.
    small = size <= problem.zero_level(coefficients)
    kept = small.float()
    move = conjugate_gradients(single, kept, (kept * residuals) @ problem.basis, _LAST)
    coefficients = coefficients + move
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
    zero = residuals == 0
    signs = problem.signs(residuals)
    # The first solve needs no double precision.
    free = zero.float()
    move = conjugate_gradients(single, free, signs.float() @ single, _DUAL)
    force = (move @ single.T).neg_().to(signs.dtype)
    bounded = bool((zero & (problem.reach(force) > _INSIDE)).any())
    upper, lower = _INSIDE * problem.upper, -_INSIDE * problem.lower
    for _ in range(limit):
        dual = torch.where(
            zero, torch.minimum(torch.maximum(force, lower), upper) if bounded else force, signs
        )
        right = dual @ problem.basis
        if not bool((right.abs() > _DEFECT).any()):
            break
        if bounded:
            free = (zero & (force < upper) & (force > lower)).float()
        move = conjugate_gradients(single, free, right, _DUAL)
        force = torch.addmm(force, move, problem.basis.T, alpha=-1)
    return dual, right.abs().amax(1) <= _DEFECT
