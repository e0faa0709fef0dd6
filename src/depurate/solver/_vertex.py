"""Vertex polish: from a guess of the rows fitted exactly to the exact solution and its dual."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._factors import lu_factors, shows_full_rank
from depurate.solver._problem import Problem

# Below this the Cholesky pivot of an orthonormal basis restricted to some rows says: not of full rank, or too
# close to it for normal equations.
_PIVOT = 1e-6
# As many rows as coefficients whose inverse is longer than this are too close to being dependent.
_LONGEST_SQUARE = 1e9
# Share of the rows believed to fit that may turn out not to, by rounding errors beyond what was promised.
_STRAYS = 0.1


@dataclass(frozen=True)
class Vertex:
    """Candidate solutions that fit given rows exactly.

    Attributes:
        coefficients: Shape (p, k).
        residuals: Shape (p, d), exactly zero on the fitted rows.
        dual: Shape (p, d): feasible for the equations Qᵀz = 0, at its bounds on all rows of nonzero residual.
        accepted: Shape (p,): fitted rows have full rank and zero residual, and the dual lies in its box.
    """

    coefficients: Tensor
    residuals: Tensor
    dual: Tensor
    accepted: Tensor


def polish(
    problem: Problem,
    zero: Tensor,
    coefficients: Tensor,
    dual: Tensor,
    table: Tensor | None = None,
    *,
    again: bool = True,
) -> Vertex:
    """Fit the rows `zero` exactly and complete the dual there, in two small solves per problem.

    c solves Q_Z c = y_Z; z_S is the sign of the residual and z_Z the point nearest to `dual` with Qᵀz = 0.

    Args:
        problem: The problems, p of them.
        zero: Shape (p, d), bool: rows believed to have zero residual.
        coefficients: A guess of c, shape (p, k).
        dual: A guess of z, shape (p, d).
        table: Outer products from `gram_table`, to be reused over calls.
        again: Whether to try once more without the rows that turn out not to fit, where these are few.
    """
    mask = zero.to(problem.targets.dtype)
    factor, info = torch.linalg.cholesky_ex(problem.gram(mask, table))
    sound = (info == 0) & (factor.diagonal(dim1=1, dim2=2).amin(1) > _PIVOT)
    factor = torch.where(sound[:, None, None], factor, torch.eye(problem.size).to(factor))
    for _ in range(3):
        right = problem.adjoint(mask * problem.residuals(coefficients))
        coefficients = coefficients + torch.cholesky_solve(right[:, :, None], factor)[:, :, 0]
    residuals = problem.residuals(coefficients)
    small = residuals.abs() <= problem.zero_level(coefficients)
    stray = zero & ~small
    sound &= ~stray.any(1)
    # A residual that vanishes outside the guess belongs to it; its dual is then free, which the equations
    # below do not use. It stays at its guess.
    residuals = residuals.masked_fill(small, 0.0)
    dual = torch.where(small, dual, problem.signs(residuals))
    for _ in range(3):
        right = problem.adjoint(dual)
        dual = dual - mask * problem.fit(torch.cholesky_solve(right[:, :, None], factor)[:, :, 0])
    inside = (problem.reach(dual).masked_fill(~small, 0.0) < 1).all(1)
    accepted = sound & inside
    accepted[accepted.clone()] = shows_full_rank(factor[accepted], info[accepted])
    vertex = Vertex(coefficients, residuals, dual, accepted)
    square = (~vertex.accepted & (zero.sum(1) == problem.size)).nonzero()[:, 0]
    if square.numel() and problem.own is None:
        _replace(vertex, square, _polish_square(problem.take(square), zero[square]))
    few = (~vertex.accepted & stray.any(1) & (stray.sum(1) <= _STRAYS * zero.sum(1))).nonzero()[:, 0]
    if again and few.numel():
        fewer = zero[few] & ~stray[few]
        _replace(
            vertex, few, polish(problem.take(few), fewer, coefficients[few], dual[few], table, again=False)
        )
    return vertex


def _replace(vertex: Vertex, rows: Tensor, better: Vertex) -> None:
    """Put the accepted ones of other candidates in place of the given rows."""
    taken = rows[better.accepted]
    vertex.coefficients[taken] = better.coefficients[better.accepted]
    vertex.residuals[taken] = better.residuals[better.accepted]
    vertex.dual[taken] = better.dual[better.accepted]
    vertex.accepted[taken] = True


def _polish_square(problem: Problem, zero: Tensor) -> Vertex:
    """Do the same by LU where there are as many rows as coefficients: normal equations square the condition."""
    rows = zero.nonzero()[:, 1].view(zero.shape[0], problem.size)
    lower_upper, pivots, _ = lu_factors(problem.basis[rows])
    unit = torch.eye(problem.size).to(lower_upper).expand_as(lower_upper)
    inverse = torch.linalg.lu_solve(lower_upper, pivots, unit)
    sound = torch.linalg.vector_norm(inverse, dim=(1, 2)) < _LONGEST_SQUARE
    lower_upper = torch.where(sound[:, None, None], lower_upper, unit)
    coefficients = torch.zeros_like(problem.targets[:, : problem.size])
    for _ in range(2):
        right = problem.residuals(coefficients).gather(1, rows)[:, :, None]
        coefficients = coefficients + torch.linalg.lu_solve(lower_upper, pivots, right)[:, :, 0]
    residuals = problem.residuals(coefficients)
    sound &= ((residuals.abs() <= problem.zero_level(coefficients)) | ~zero).all(1)
    residuals = residuals.masked_fill(zero, 0.0)
    dual = problem.signs(residuals)
    for _ in range(2):
        right = problem.adjoint(dual)[:, :, None]
        move = torch.linalg.lu_solve(lower_upper, pivots, right, adjoint=True)[:, :, 0]
        dual = dual.scatter_add(1, rows, -move)
    inside = (problem.reach(dual).masked_fill(~zero, 0.0) < 1).all(1)
    return Vertex(coefficients, residuals, dual, sound & inside)


@dataclass(frozen=True)
class Candidate:
    """Solutions being collected, one row a problem; methods fill the rows in as problems finish.

    Attributes:
        coefficients: Shape (p, k).
        residuals: Shape (p, d).
        dual: Shape (p, d), a guess that `certify` makes feasible.
        vertex: Shape (p,): an accepted vertex, so its fitted rows are known to have full rank.
        iterations: Shape (p,).
    """

    coefficients: Tensor
    residuals: Tensor
    dual: Tensor
    vertex: Tensor
    iterations: Tensor

    @staticmethod
    def start(problem: Problem) -> Candidate:
        """Begin an empty collection for all problems."""
        count, targets = problem.targets.shape[0], problem.targets
        return Candidate(
            targets.new_zeros(count, problem.size),
            targets.clone(),  # those of zero coefficients: what no method solves must not look solved
            torch.zeros_like(targets),
            torch.zeros(count, dtype=torch.bool, device=targets.device),
            torch.zeros(count, dtype=torch.int64, device=targets.device),
        )

    def fill(self, rows: Tensor, part: Candidate) -> None:
        """Store the solutions of the given problems."""
        self.coefficients[rows] = part.coefficients
        self.residuals[rows] = part.residuals
        self.dual[rows] = part.dual
        self.vertex[rows] = part.vertex
        self.iterations[rows] += part.iterations

    def put(self, rows: Tensor, vertex: Vertex, chosen: Tensor, iteration: int) -> None:
        """Store the chosen vertices as the given problems' solutions."""
        self.coefficients[rows] = vertex.coefficients[chosen]
        self.residuals[rows] = vertex.residuals[chosen]
        self.dual[rows] = vertex.dual[chosen]
        self.vertex[rows] = True
        self.iterations[rows] = iteration

    def put_point(
        self, problem: Problem, rows: Tensor, coefficients: Tensor, dual: Tensor, iteration: int
    ) -> None:
        """Store points that are not vertices as the given problems' solutions."""
        part = problem.take(rows)
        residuals = part.residuals(coefficients)
        small = residuals.abs() <= part.zero_level(coefficients)
        self.coefficients[rows] = coefficients
        self.residuals[rows] = residuals.masked_fill(small, 0.0)
        self.dual[rows] = dual
        self.iterations[rows] = iteration
