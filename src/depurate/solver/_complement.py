"""Frisch-Newton in the orthogonal complement of the span, for designs with nearly as many columns as rows.

With N an orthonormal basis of the complement, n = d − k columns, N'e = N'y is all that the equations say of the
residuals, and z = N w makes every dual feasible; so min ‖e‖₁ subject to N'e = N'y needs linear algebra of size n only.
At a solution at most n rows differ from zero, and N on these is what is factored; N_T N_Tᵀ = I − Q_T Q_Tᵀ has the
smallest eigenvalue of Q_ZᵀQ_Z, so its factors show the rank of the rows fitted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver._factors import lu_factors, shows_full_rank
from depurate.solver._gram import gram_table, weighted_gram
from depurate.solver._heldout import pad, places
from depurate.solver._interior import STEP, Iterate, Path, follow, step_lengths
from depurate.solver._normal import Solve, scaled_factor
from depurate.solver._problem import Problem
from depurate.solver._start import Start
from depurate.solver._vertex import Candidate, Vertex

# As many rows as columns whose inverse is longer than this are too close to being dependent.
_LONGEST_SQUARE = 1e9


def complement_basis(basis: Tensor) -> Tensor:
    """Complete an orthonormal basis, shape (d, k), by one of its orthogonal complement, shape (d, d − k)."""
    rows, rank = basis.shape
    generator = torch.Generator().manual_seed(0)
    other = torch.randn(rows, rows - rank, generator=generator, dtype=basis.dtype).to(basis.device)
    # The second round makes up for what the first left of the span, as directions that nearly lie in it magnify that.
    for _ in range(2):
        other = torch.linalg.qr(other - basis @ (basis.T @ other)).Q
    return other


def solve_complement(
    problem: Problem, tolerance: float, max_iterations: int, start: Start | None = None
) -> Candidate:
    """Solve linear problems without columns of their own by way of the complement.

    Args:
        problem: The problems, p of them.
        tolerance: Relative complementarity at which a problem without a vertex stops.
        max_iterations: Steps at most.
        start: Its rows of zero residual are tried once before the first step.
    """
    other = complement_basis(problem.basis)
    table = gram_table(other)
    path = Path(
        lambda part, point: _step(part, other, table, point),
        lambda part, zero, point: _vertex(part, other, zero, point.dual),
        lambda part, point: part.adjoint(part.targets - (point.above - point.below)),
    )
    first = None if start is None else _vertex(problem, other, start.zero, start.dual)
    return follow(problem, first, lambda part: _begin(part, other), path, tolerance, max_iterations)


def _begin(problem: Problem, other: Tensor) -> Iterate:
    """Start at z = 0 and the residuals of least squares, both multipliers lifted by their mean."""
    residuals = (problem.targets @ other) @ other.T
    lift = residuals.abs().mean(1, keepdim=True).clamp_min(torch.finfo(residuals.dtype).tiny)
    above, below = residuals.clamp_min(0) + lift, (-residuals).clamp_min(0) + lift
    return Iterate(residuals[:, :0], torch.zeros_like(residuals), above, below)


def _step(problem: Problem, other: Tensor, table: Tensor | None, point: Iterate) -> Iterate:
    """Take one predictor and corrector step; `coefficients` stay empty, as the residuals say it all."""
    over, under = problem.upper - point.dual, problem.lower + point.dual
    factor, scale = scaled_factor(weighted_gram(other, point.above / over + point.below / under, table))
    primal = problem.targets - point.above + point.below

    def direction(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        right = ((primal - high / over + low / under) @ other) * scale
        move = torch.cholesky_solve(right[:, :, None], factor)[:, :, 0] * scale
        dual = move @ other.T
        return dual, (high + point.above * dual) / over, (low - point.below * dual) / under

    rise, fall = point.above * over, point.below * under
    dual, above, below = direction(-rise, -fall)
    mean = (rise + fall).mean(1, keepdim=True) / 2
    grow, move = step_lengths(point, over, under, dual, above, below)
    ahead = (point.above + grow * above) * (over - move * dual)
    ahead += (point.below + grow * below) * (under + move * dual)
    target = mean * (ahead.mean(1, keepdim=True) / 2 / mean).clamp(0, 1) ** 3
    dual, above, below = direction(target - rise + above * dual, target - fall - below * dual)
    grow, move = step_lengths(point, over, under, dual, above, below)
    grow, move = (STEP * grow).clamp_max(1.0), (STEP * move).clamp_max(1.0)
    return Iterate(
        point.coefficients, point.dual + move * dual, point.above + grow * above, point.below + grow * below
    )


def _vertex(problem: Problem, other: Tensor, zero: Tensor, dual: Tensor) -> Vertex:
    """Solve for the residuals where they are not zero, and for the dual with their signs nearest to the one given."""
    index = places(~zero)
    absent = index == other.shape[0]
    rows = other[index.clamp_max(other.shape[0] - 1)].masked_fill(absent[:, :, None], 0.0)
    fit, meet, full = _equations(rows, absent)
    goal = problem.targets @ other
    values = fit(goal)
    for _ in range(2):
        values = values + fit(goal - (values[:, None] @ rows)[:, 0])
    noise = pad(torch.zeros_like(dual)).scatter_(1, index, values)[:, :-1]
    coefficients = problem.adjoint(problem.targets - noise)
    coefficients = coefficients + problem.adjoint(problem.residuals(coefficients) - noise)
    residuals = problem.residuals(coefficients)
    small = residuals.abs() <= problem.zero_level(coefficients)
    residuals = residuals.masked_fill(small, 0.0)
    # A residual that vanishes beside the guess belongs to it; its dual stays where it is.
    signs = torch.where(small, dual, problem.signs(residuals))
    wanted, force = pad(signs).gather(1, index), dual @ other
    for _ in range(3):
        force = force + meet(wanted - (rows @ force[:, :, None])[:, :, 0])
    found = torch.where(zero, force @ other.T, signs)
    inside = (problem.reach(found).masked_fill(~small, 0.0) < 1).all(1)
    return Vertex(coefficients, residuals, found, full & inside & (small | ~zero).all(1))


def _equations(rows: Tensor, absent: Tensor) -> tuple[Solve, Solve, Tensor]:
    """Factor N_T for the least squares of N_Tᵀ e = g, for the w of least norm with N_T w = s, and for its rank."""
    if rows.shape[1] == rows.shape[2] and not bool(absent.any()):
        factors, swaps, _ = lu_factors(rows)
        inverse = torch.linalg.lu_solve(factors, swaps, torch.eye(rows.shape[1]).to(rows).expand_as(rows))
        full = torch.linalg.vector_norm(inverse, dim=(1, 2)) < _LONGEST_SQUARE
        return (
            lambda right: torch.linalg.lu_solve(factors, swaps, right[:, :, None], adjoint=True)[:, :, 0],
            lambda right: torch.linalg.lu_solve(factors, swaps, right[:, :, None])[:, :, 0],
            full,
        )
    gram = rows @ rows.mT
    gram.diagonal(dim1=1, dim2=2).add_(absent.to(gram.dtype))
    factor, info = torch.linalg.cholesky_ex(gram)
    full = shows_full_rank(factor, info)
    return (
        lambda right: torch.cholesky_solve(rows @ right[:, :, None], factor)[:, :, 0],
        lambda right: (rows.mT @ torch.cholesky_solve(right[:, :, None], factor))[:, :, 0],
        full,
    )
