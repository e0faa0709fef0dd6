"""From a guess of the rows that generic targets pass through to the solution, on few factors.

The vertex through the guessed rows is factored once, in single precision. The rows in doubt make a small tableau, its
optimum is checked against all other rows through the same factors, and those that object join the doubt. Where none
objects the same factors and those of the rows exchanged give the exact solution and its dual.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._equations import Equations, Exchanged, Factored, exchange, factor, solve
from depurate.solver._problem import Problem
from depurate.solver._tableau import Tableau, solve_tableau
from depurate.solver._vertex import Candidate, Vertex

# Rows in doubt at first, on the vertex and off it; how many join at a time; and pivots at most.
_INNER, _OUTER, _MORE, _PIVOTS = 48, 96, 48, 50
# Checks on one factor.
_CHECKS = 3
# Solves in single precision for a look, and further ones for a proof.
_LOOK, _PROOF = 2, 2
# Problems that are refined at a time: their factors should stay near the processor.
_WIDTH = 16
# A dual this far beyond its box objects.
_BEYOND = 1e-4


@dataclass(frozen=True)
class Corner:
    """Vertices through given rows.

    Attributes:
        rows: The rows passed through, shape (p, k).
        coefficients: Shape (p, k).
        residuals: Shape (p, d), zero on the rows.
        dual: Signs off the vertex and what Qᵀz = 0 leaves on it, shape (p, d).
        sound: Whether all is finite and of full rank, shape (p,).
    """

    rows: Tensor
    coefficients: Tensor
    residuals: Tensor
    dual: Tensor
    sound: Tensor

    def take(self, chosen: Tensor | slice) -> Corner:
        """Pick the given problems."""
        return Corner(
            self.rows[chosen],
            self.coefficients[chosen],
            self.residuals[chosen],
            self.dual[chosen],
            self.sound[chosen],
        )


def descend(
    problem: Problem, single: Tensor, rows: Tensor, done: Candidate, most: int | None = None
) -> tuple[Tensor, Tensor]:
    """Solve generic targets from guesses of their rows.

    Args:
        problem: The problems, p of them.
        single: The basis in single precision.
        rows: The guesses, shape (p, k).
        done: Takes the solutions.
        most: Guesses with more duals outside their box than this are left alone.

    Returns:
        The rows reached, for those that stay unsolved too, and whether those guessed had full rank.
    """
    equations, guess = factor(single, rows), problem.adjoint(problem.targets)
    nothing = torch.zeros_like(problem.targets)
    corner = _refine(problem, equations, Corner(rows, guess, nothing, nothing, equations.full), _LOOK)
    doubts = (problem.reach(corner.dual).gather(1, corner.rows) >= 1 + _BEYOND).sum(1)
    likely = (corner.sound & (doubts == 0)).nonzero()[:, 0]
    if likely.numel():
        _settle(problem.take(likely), equations.take(likely), corner.take(likely), likely, done, 0)
    sound, rows = corner.sound, rows.clone()
    near = sound if most is None else sound & (doubts <= most)
    going = (near & ~done.vertex).nonzero()[:, 0]
    if going.numel():
        if going.numel() < len(rows):
            problem, corner, equations = problem.take(going), corner.take(going), equations.take(going)
        rows[going] = _improve(problem, single, equations, corner, going, done)
    return rows, sound


def _refine(problem: Problem, equations: Equations, corner: Corner, times: int) -> Corner:
    """Take further steps towards the exact vertices and their duals, a few problems at a time."""
    parts = [slice(start, start + _WIDTH) for start in range(0, len(corner.rows), _WIDTH)]
    done = [
        _refine_part(problem.take(part), equations.take(part), corner.take(part), times) for part in parts
    ]
    coefficients, residuals, dual, sound = (
        torch.cat([getattr(each, name) for each in done])
        for name in ("coefficients", "residuals", "dual", "sound")
    )
    return Corner(corner.rows, coefficients, residuals, dual, sound)


def _refine_part(problem: Problem, equations: Equations, corner: Corner, times: int) -> Corner:
    rows, coefficients = corner.rows, corner.coefficients
    for _ in range(times):
        short = problem.residuals(coefficients).gather(1, rows)
        coefficients = coefficients + solve(equations, short)
    residuals = problem.residuals(coefficients).scatter_(1, rows, 0.0)
    dual = problem.signs(residuals).scatter_(1, rows, corner.dual.gather(1, rows))
    for _ in range(times):
        dual.scatter_add_(1, rows, -solve(equations, problem.adjoint(dual), adjoint=True))
    sound = corner.sound & coefficients.isfinite().all(1) & dual.isfinite().all(1)
    return Corner(rows, coefficients, residuals, dual, sound)


def _settle(
    problem: Problem, equations: Equations, corner: Corner, names: Tensor, done: Candidate, used: int
) -> None:
    """Solve for the vertices to rounding, check them and store those that hold under the given names."""
    corner = _refine(problem, equations, corner, _PROOF)
    coefficients = corner.coefficients
    level, residuals = problem.zero_level(coefficients), problem.residuals(coefficients)
    small = residuals.abs() <= level
    sound = corner.sound & small.gather(1, corner.rows).all(1) & (small.sum(1) == problem.size)
    defect = problem.adjoint(corner.dual).abs().amax(1)
    sound &= (problem.reach(corner.dual).gather(1, corner.rows).amax(1) < 1) & (defect < 1e-10)
    vertex = Vertex(coefficients, corner.residuals, corner.dual, sound)
    done.put(names[sound], vertex, sound, used)


def _improve(
    problem: Problem, single: Tensor, old: Factored, corner: Corner, names: Tensor, done: Candidate
) -> Tensor:
    """Pivot among the rows in doubt until no other objects, and settle; give the rows of the vertices reached."""
    size = corner.rows.shape[1]
    spare = problem.basis.shape[0] - size
    signs = problem.signs(corner.residuals)
    doubt = problem.reach(corner.dual).gather(1, corner.rows)
    near = (corner.residuals.abs() / problem.lengths).scatter_(1, corner.rows, torch.inf)
    place = doubt.topk(min(_INNER, size), dim=1).indices
    outer = near.topk(min(_OUTER, spare), dim=1, largest=False).indices
    columns = old.columns(place)
    rows, alive = corner.rows.clone(), torch.arange(len(names), device=names.device)
    for used in range(1, _CHECKS + 1):
        inner = corner.rows.gather(1, place)
        end = solve_tableau(_tableau(problem, single, corner, signs, inner, outer, columns), _PIVOTS)
        found = torch.zeros_like(signs).scatter_(1, end.outer, end.body[:, :-1, -1].to(signs.dtype))
        moved = corner.coefficients - (columns @ found.gather(1, inner).float()[:, :, None])[:, :, 0]
        reached = corner.rows.scatter(1, place, end.inner)
        rows[alive] = reached
        residuals = problem.residuals(moved).scatter_(1, reached, 0.0)
        dual = problem.signs(residuals).scatter_(1, end.inner, -end.pull().to(signs.dtype))
        dual.scatter_(1, corner.rows, 0.0)
        dual.scatter_(1, corner.rows, -solve(old, problem.adjoint(dual), adjoint=True))
        doubt = problem.reach(dual).gather(1, corner.rows).scatter_(1, place, -torch.inf)
        near = (residuals * corner.residuals.sign() / problem.lengths).scatter_(1, corner.rows, torch.inf)
        near = near.scatter_(1, outer, torch.inf)
        objects = (doubt.amax(1) > 1 + _BEYOND) | (near.amin(1) < 0)
        quiet = (~objects).nonzero()[:, 0]
        if quiet.numel():
            change = inner[quiet], end.inner[quiet], place[quiet], columns[quiet]
            there = _exchange(single, old.take(quiet), *change)
            vertex = Corner(reached[quiet], moved[quiet], residuals[quiet], dual[quiet], there.full)
            _settle(problem.take(quiet), there, vertex, names[alive[quiet]], done, used)
        going = objects.nonzero()[:, 0]
        if not going.numel() or used == _CHECKS:
            break
        if quiet.numel():
            alive, problem, old, corner = (
                alive[going],
                problem.take(going),
                old.take(going),
                corner.take(going),
            )
            signs, doubt, near, place = signs[going], doubt[going], near[going], place[going]
            outer, columns = outer[going], columns[going]
        more = doubt.topk(min(_MORE, size - place.shape[1]), dim=1).indices
        place = torch.cat([place, more], 1)
        columns = torch.cat([columns, old.columns(more)], 2)
        more = near.topk(min(2 * _MORE, spare - outer.shape[1]), dim=1, largest=False).indices
        outer = torch.cat([outer, more], 1)
    return rows


def _exchange(
    single: Tensor, old: Factored, before: Tensor, after: Tensor, place: Tensor, columns: Tensor
) -> Exchanged:
    """Exchange the rows that pivots have changed, and as many others for themselves as a batch needs."""
    changed = (before != after).to(torch.int8)
    most = max(1, int(changed.sum(1).max()))
    chosen = changed.topk(most, dim=1).indices
    picked = columns.gather(2, chosen[:, None].expand(-1, columns.shape[1], -1))
    return exchange(old, single, place.gather(1, chosen), after.gather(1, chosen), picked)


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
