"""Fits with more zeros than coefficients, from a good guess of the zeros and of the dual.

The fit is least squares on rows chosen ever better. Its dual is not unique: the point of the box nearest to the guess
with Qᵀz = 0 is found.
"""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver._factors import shows_full_rank
from depurate.solver._masks import at_most, largest
from depurate.solver._problem import Problem
from depurate.solver._vertex import Vertex

# Entries keep to this share of the box, so that the dual proves uniqueness.
_INSIDE = 0.9999
_STEPS = 15
# Defects Qᵀz below this are rounding; eigenvalues of the free rows' Gram matrix (at most 1) are lifted by the other.
_DEFECT, _LIFT = 1e-13, 1e-9
# What is still this far from feasible after as many steps is given up.
_TRIAL, _HOPE = 6, 0.05
# Choices of the rows, the last of which must fit; residuals above this multiple of their mean are left out.
_CHOICES, _KEEP = 6, 3.3


def fit_many(problem: Problem, zero: Tensor, dual: Tensor) -> Vertex:
    """Fit rows of zero residual exactly, more of them than coefficients, and complete the dual on them.

    Args:
        problem: The problems, p of them, without columns of their own.
        zero: A guess of the rows, shape (p, d), bool.
        dual: A guess of z, shape (p, d).
    """
    count = len(zero)
    coefficients, kept = problem.targets.new_zeros(count, problem.size), zero.to(problem.targets.dtype)
    sound = torch.zeros(count, dtype=torch.bool, device=zero.device)
    alive, part = torch.arange(count, device=zero.device), problem
    for _ in range(_CHOICES):
        factor, info = torch.linalg.cholesky_ex(part.gram(kept))
        full = shows_full_rank(factor, info)
        found = torch.zeros_like(coefficients[: len(alive)])
        for _ in range(3):
            right = part.adjoint(part.residuals(found).mul_(kept))
            found = found + torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
        size = part.residuals(found).abs_()
        coefficients[alive], spared = found, size * kept
        fits = full & ((spared - part.zero_level(found)).amax(1) <= 0)
        sound[alive] = fits
        bound = _KEEP * spared.sum(1, keepdim=True) / kept.sum(1, keepdim=True).clamp_min(1)
        kept = at_most(size, bound)
        going = (full & ~fits & (kept.sum(1) >= part.size)).nonzero()[:, 0]
        if not going.numel():
            break
        alive, part, kept = alive[going], part.take(going), kept[going]
    residuals = problem.residuals(coefficients)
    residuals = residuals.masked_fill(residuals.abs() <= problem.zero_level(coefficients), 0.0)
    found_dual, rows = dual.clone(), sound.nonzero()[:, 0]
    if rows.numel():
        found_dual[rows], sound[rows] = boxed_dual(problem.take(rows), residuals[rows], dual[rows])
    return Vertex(coefficients, residuals, found_dual, sound)


def boxed_dual(problem: Problem, residuals: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
    """Complete the signs of the residuals to a dual by a semismooth Newton method.

    On the rows of zero residual z = clip(g + Q m), g the guess; m makes Qᵀz = 0. Each step solves on the rows that are
    not clipped, in double precision by Cholesky factors.

    Args:
        problem: The problems, p of them, without columns of their own.
        residuals: Shape (p, d), exactly zero on the rows fitted.
        guess: Shape (p, d).

    Returns:
        z of shape (p, d), and which of them are feasible and strictly inside on the rows of zero residual.
    """
    signs, support = problem.signs(residuals), residuals.sign().abs_()
    dual, good = signs.clone(), torch.zeros(len(signs), dtype=torch.bool, device=signs.device)
    alive, part = torch.arange(len(signs), device=signs.device), problem
    force = guess.clone()
    size = part.size
    first = torch.full_like(residuals[:, 0], torch.inf)
    for step in range(_STEPS):
        inside = torch.minimum(torch.maximum(force, -_INSIDE * part.lower), _INSIDE * part.upper)
        free = at_most((inside - force).abs_(), 0.0).sub_(support).clamp_min_(0)
        inside.addcmul_(inside, support, value=-1).add_(signs)
        dual[alive] = inside
        defect = part.adjoint(inside)
        miss = largest(defect)
        good[alive] = miss <= _DEFECT
        if step == 0:
            first = miss
        hopeless = (miss > _HOPE * first) if step == _TRIAL else torch.zeros_like(miss, dtype=torch.bool)
        going = ((miss > _DEFECT) & miss.isfinite() & (free.sum(1) >= size) & ~hopeless).nonzero()[:, 0]
        if not going.numel():
            break
        if going.numel() < len(alive):
            alive, part, signs, support = alive[going], part.take(going), signs[going], support[going]
            force, free, defect, first = force[going], free[going], defect[going], first[going]
        gram = part.gram(free)
        gram.diagonal(dim1=1, dim2=2).add_(_LIFT)
        factor = torch.linalg.cholesky_ex(gram).L
        move = torch.cholesky_solve(defect[:, :, None], factor)[:, :, 0]
        force = torch.addmm(force, move, part.basis.T, alpha=-1)
    return dual, good
