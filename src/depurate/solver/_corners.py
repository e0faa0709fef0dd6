"""From a guess of the rows that generic targets pass through to the solution, on few factors.

The vertex through the guessed rows is factored once, in single precision. The rows in doubt make a small tableau, its
optimum is checked against all other rows through the same factors, and those that object join the doubt. Only where
none objects is the new vertex factored, for the exact solution and its dual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._factors import lu_factors
from depurate.solver._problem import Problem
from depurate.solver._tableau import Tableau, solve_tableau
from depurate.solver._vertex import Candidate, Vertex

# Rows in doubt at first, on the vertex and off it; how many join at a time; and pivots at most.
_INNER, _OUTER, _MORE, _PIVOTS = 48, 96, 24, 100
# Checks on one factor, and factors.
_CHECKS, _ROUNDS = 3, 1
# Solves in single precision for a look, and further ones for a proof.
_LOOK, _PROOF = 2, 2
# Where one in so many looks solved, all are tried.
_MOST = 1.5
# With a smaller pivot in single precision the rows may not have full rank.
_PIVOT = 1e-5
# A dual this far beyond its box objects.
_BEYOND = 1e-4


@dataclass(frozen=True)
class Corner:
    """Vertices through given rows.

    Attributes:
        rows: The rows passed through, shape (p, k).
        factors: LU factors in single precision of Q on these rows.
        swaps: Their row exchanges.
        coefficients: Shape (p, k).
        residuals: Shape (p, d), zero on the rows.
        dual: Signs off the vertex and what Qᵀz = 0 leaves on it, shape (p, d).
        sound: Whether all is finite, shape (p,).
    """

    rows: Tensor
    factors: Tensor
    swaps: Tensor
    coefficients: Tensor
    residuals: Tensor
    dual: Tensor
    sound: Tensor

    def take(self, chosen: Tensor) -> Corner:
        """Pick the given problems."""
        return Corner(
            self.rows[chosen],
            self.factors[chosen],
            self.swaps[chosen],
            self.coefficients[chosen],
            self.residuals[chosen],
            self.dual[chosen],
            self.sound[chosen],
        )

    def solve(self, right: Tensor, *, adjoint: bool = False) -> Tensor:
        """Solve Q_V x = b or Q_Vᵀ x = b in single precision for b of shape (p, k)."""
        size = right.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(right.dtype).tiny)
        scaled = (right / size).float()[:, :, None]
        found: Tensor = torch.linalg.lu_solve(self.factors, self.swaps, scaled, adjoint=adjoint)[:, :, 0]
        return found.to(right.dtype).mul_(size)


def descend(problem: Problem, single: Tensor, rows: Tensor, done: Candidate) -> Tensor:
    """Solve generic targets from guesses of their rows; give the rows reached, for those that stay unsolved too."""
    rows, coefficients = rows.clone(), problem.adjoint(problem.targets)
    alive = torch.arange(len(rows), device=rows.device)
    for used in range(_ROUNDS + 1):
        part = problem.take(alive)
        corner = _corner(part, single, rows[alive], coefficients[alive])
        inside = part.reach(corner.dual).gather(1, corner.rows).amax(1) < 1 + _BEYOND
        likely = (corner.sound & inside).nonzero()[:, 0]
        if _MOST * likely.numel() >= len(alive):
            # Copies of the factors are dearer than a few idle solves.
            vertex = _exact(part, corner)
            done.put(alive[vertex.accepted], vertex, vertex.accepted, used)
        elif likely.numel():
            vertex = _exact(part.take(likely), corner.take(likely))
            done.put(alive[likely[vertex.accepted]], vertex, vertex.accepted, used)
        going = (corner.sound & ~done.vertex[alive]).nonzero()[:, 0]
        if not going.numel() or used == _ROUNDS:
            break
        if going.numel() < len(alive):
            alive, part, corner = alive[going], part.take(going), corner.take(going)
        rows[alive], coefficients[alive] = _improve(part, single, corner)
    return rows


def _corner(problem: Problem, single: Tensor, rows: Tensor, coefficients: Tensor) -> Corner:
    """Factor the vertices, and solve for them nearly."""
    count, size = rows.shape
    square = single.index_select(0, rows.flatten()).view(count, size, size)
    factors, swaps, info = lu_factors(square)
    nothing = torch.zeros_like(problem.targets)
    full = (info == 0) & (factors.diagonal(dim1=1, dim2=2).abs().amin(1) > _PIVOT)
    corner = Corner(rows, factors, swaps, coefficients, nothing, nothing, full)
    return _refine(problem, corner, _LOOK)


def _refine(problem: Problem, corner: Corner, times: int) -> Corner:
    """Take further steps towards the exact vertex and its dual."""
    rows, coefficients = corner.rows, corner.coefficients
    for _ in range(times):
        coefficients = coefficients + corner.solve(problem.residuals(coefficients).gather(1, rows))
    residuals = problem.residuals(coefficients).scatter_(1, rows, 0.0)
    dual = problem.signs(residuals).scatter_(1, rows, corner.dual.gather(1, rows))
    for _ in range(times):
        dual.scatter_add_(1, rows, -corner.solve(problem.adjoint(dual), adjoint=True))
    sound = corner.sound & coefficients.isfinite().all(1) & dual.isfinite().all(1)
    return Corner(rows, corner.factors, corner.swaps, coefficients, residuals, dual, sound)


def _exact(problem: Problem, corner: Corner) -> Vertex:
    """Solve for the vertices to rounding and check them."""
    corner = _refine(problem, corner, _PROOF)
    coefficients = corner.coefficients
    level, residuals = problem.zero_level(coefficients), problem.residuals(coefficients)
    small = residuals.abs() <= level
    sound = corner.sound & small.gather(1, corner.rows).all(1) & (small.sum(1) == problem.size)
    defect = problem.adjoint(corner.dual).abs().amax(1)
    sound &= (problem.reach(corner.dual).gather(1, corner.rows).amax(1) < 1) & (defect < 1e-10)
    return Vertex(coefficients, corner.residuals, corner.dual, sound)


def _improve(problem: Problem, single: Tensor, corner: Corner) -> tuple[Tensor, Tensor]:
    """Pivot among the rows in doubt until no other objects; give the rows of the vertex reached and coefficients."""
    count, size = corner.rows.shape
    spare = problem.basis.shape[0] - size
    signs = problem.signs(corner.residuals)
    doubt = problem.reach(corner.dual).gather(1, corner.rows)
    near = (corner.residuals.abs() / problem.lengths).scatter_(1, corner.rows, torch.inf)
    place = doubt.topk(min(_INNER, size), dim=1).indices
    outer = near.topk(min(_OUTER, spare), dim=1, largest=False).indices
    columns = _columns(corner, place)
    alive = torch.arange(count, device=place.device)
    rows, coefficients = corner.rows.clone(), corner.coefficients.clone()
    part = problem
    for _ in range(_CHECKS):
        inner = corner.rows.gather(1, place)
        tableau = _tableau(part, single, corner, signs, inner, outer, columns)
        end = solve_tableau(tableau, _PIVOTS)
        found = torch.zeros_like(signs).scatter_(1, end.outer, end.body[:, :-1, -1].to(signs.dtype))
        moved = corner.coefficients - (columns @ found.gather(1, inner).float()[:, :, None])[:, :, 0]
        reached = corner.rows.scatter(1, place, end.inner)
        rows[alive], coefficients[alive] = reached, moved
        residuals = part.residuals(moved).scatter_(1, reached, 0.0)
        dual = part.signs(residuals).scatter_(1, end.inner, -end.pull().to(signs.dtype))
        dual.scatter_(1, corner.rows, 0.0)
        dual.scatter_(1, corner.rows, -corner.solve(part.adjoint(dual), adjoint=True))
        doubt = part.reach(dual).gather(1, corner.rows).scatter_(1, place, -torch.inf)
        near = (residuals * corner.residuals.sign() / part.lengths).scatter_(1, corner.rows, torch.inf)
        near = near.scatter_(1, outer, torch.inf)
        objects = (doubt.amax(1) > 1 + _BEYOND) | (near.amin(1) < 0)
        going = objects.nonzero()[:, 0]
        if not going.numel():
            break
        if going.numel() < len(alive):
            alive, part, corner, signs = alive[going], part.take(going), corner.take(going), signs[going]
            doubt, near, place, outer = doubt[going], near[going], place[going], outer[going]
            columns = columns[going]
        more = doubt.topk(min(_MORE, size - place.shape[1]), dim=1).indices
        place = torch.cat([place, more], 1)
        columns = torch.cat([columns, _columns(corner, more)], 2)
        more = near.topk(min(2 * _MORE, spare - outer.shape[1]), dim=1, largest=False).indices
        outer = torch.cat([outer, more], 1)
    return rows, coefficients


def _columns(corner: Corner, place: Tensor) -> Tensor:
    """Compute columns of the inverses of Q on the rows of the vertices."""
    count, size = corner.rows.shape
    unit = corner.factors.new_zeros(count, size, place.shape[1]).scatter_(1, place[:, None], 1.0)
    columns: Tensor = torch.linalg.lu_solve(corner.factors, corner.swaps, unit)
    return columns


def _tableau(
    problem: Problem,
    single: Tensor,
    corner: Corner,
    signs: Tensor,
    inner: Tensor,
    outer: Tensor,
    columns: Tensor,
) -> Tableau:
    count, width = inner.shape
    size = corner.rows.shape[1]
    body = single.new_zeros(count, outer.shape[1] + 1, width + 1)
    picked = single.index_select(0, outer.flatten()).view(count, -1, size)
    body[:, :-1, :-1] = picked @ columns
    body[:, :-1, -1] = corner.residuals.gather(1, outer)
    held = signs.scatter(1, outer, 0.0)
    body[:, -1, :-1] = ((held @ problem.basis).float()[:, None] @ columns)[:, 0]

    def slopes(box: Tensor, index: Tensor) -> Tensor:
        return box.to(single.dtype) if box.numel() == 1 else box.gather(1, index).to(single.dtype)

    return Tableau(
        body,
        outer.clone(),
        inner.clone(),
        slopes(problem.lower, outer),
        slopes(problem.upper, outer),
        slopes(problem.lower, inner),
        slopes(problem.upper, inner),
    )
