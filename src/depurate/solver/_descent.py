"""Descent from vertex to vertex of min ‖y − Qc‖₁, with line searches through many breakpoints, for many targets.

Barrodale & Roberts, An improved algorithm for discrete l1 linear approximation, SIAM J. Numer. Anal. 10 (1973): leave
the row whose dual is farthest outside its box, follow the edge until the loss rises again, enter the row hit there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.solver._boxed import fit_many
from depurate.solver._corners import descend
from depurate.solver._factors import inverses
from depurate.solver._problem import Problem
from depurate.solver._splitting import Split, Splitting, advance, begin, read
from depurate.solver._start import Start
from depurate.solver._vertex import Candidate, Vertex, polish

# Steps of the splitting, and how many more for targets that these do not solve; pivots at most.
_SPLITTING, _MORE, _PIVOTS = 200, 400, 40
# Steps from a start between looks at the rows, and the share of these up to whose change they have settled.
_LOOKS, _CHANGES = (20, 20, 40, 40, 80), 0.03
# This many rows at zero, in numbers of coefficients, are more than a generic target has.
_MANY = 1.1
# A dual beyond its box by no more than this is inside up to rounding; the polish decides.
_OUTSIDE = 1e-9
# Smaller pivots would make the inverse worthless; with larger entries of it the rows may not have full rank.
_PIVOT, _LARGE = 1e-7, 1e8


@dataclass(frozen=True)
class Corner:
    """Vertices, one a problem.

    Attributes:
        rows: The rows passed through, shape (p, k).
        inverse: Inverses of Q on these rows, shape (p, k, k).
        coefficients: Shape (p, k).
        residuals: Shape (p, d).
        dual: Signs off the vertex and what Qᵀz = 0 leaves on it, shape (p, d).
        lost: A pivot was too small, shape (p,).
    """

    rows: Tensor
    inverse: Tensor
    coefficients: Tensor
    residuals: Tensor
    dual: Tensor
    lost: Tensor

    def take(self, chosen: Tensor) -> Corner:
        """Pick the given problems."""
        return Corner(
            self.rows[chosen],
            self.inverse[chosen],
            self.coefficients[chosen],
            self.residuals[chosen],
            self.dual[chosen],
            self.lost[chosen],
        )


def solve_descent(
    problem: Problem, tolerance: float, max_iterations: int, start: Start | None = None
) -> Candidate:
    """Guess a vertex by splitting and descend from it; problems that take too many pivots stay unsolved.

    Args:
        problem: The problems, p of them, linear and without columns of their own.
        tolerance: Not used: a solution is a vertex with its dual.
        max_iterations: Pivots at most.
        start: Where the splitting begins.
    """
    done, single = Candidate.start(problem), problem.basis.float()
    if start is None:
        splitting = advance(problem, begin(problem), _SPLITTING)
        likeliest = read(problem, splitting).likeliest
    else:
        splitting, likeliest = _settle(problem, start)
    split = read(problem, splitting)
    _fit_many(problem, split, done)
    alive = (~done.vertex).nonzero()[:, 0]
    part, splitting, rows = problem.take(alive), splitting.take(alive), likeliest[alive]
    for again in (True, False):
        if not alive.numel():
            return done
        found = Candidate.start(part)
        rows, sound = descend(part, single, rows, found)
        done.fill(alive, found)
        # Where the rows guessed are not of full rank, as with rows of very uneven leverage, more steps do not help.
        going = (sound & ~found.vertex).nonzero()[:, 0]
        alive, part, rows = alive[going], part.take(going), rows[going]
        if again and alive.numel():
            splitting = advance(part, splitting.take(going), _MORE)
            rows = read(part, splitting).likeliest
    if alive.numel():
        done.fill(alive, _follow_edges(part, rows, min(max_iterations, _PIVOTS)))
    return done


def _settle(problem: Problem, start: Start) -> tuple[Splitting, Tensor]:
    """Split on from a start until the likeliest rows stay nearly the same, as many steps at most as without one.

    Returns:
        The splitting, and the likeliest rows: the start's own, which is the better guess, where the first look agrees.
    """
    alive = torch.arange(len(problem.targets), device=problem.targets.device)
    part, splitting, rows = problem, begin(problem, start), start.rows.clone()
    here, most = splitting, max(1, int(_CHANGES * problem.size))
    for look, steps in enumerate(_LOOKS):
        here = advance(part, here, steps)
        splitting.put(alive, here)
        known = torch.zeros_like(part.targets, dtype=torch.bool).scatter_(1, rows[alive], True)
        now = read(part, here).likeliest
        apart = (~known.gather(1, now)).sum(1) > most
        changed = apart | (look > 0)
        rows[alive[changed]] = now[changed]
        going = apart.nonzero()[:, 0]
        alive, part, here = alive[going], part.take(going), here.take(going)
        if not alive.numel():
            break
    return splitting, rows


def _fit_many(problem: Problem, split: Split, done: Candidate) -> None:
    """Solve those with clearly more zeros than coefficients on all of these."""
    many = (split.zero.sum(1) > _MANY * problem.size).nonzero()[:, 0]
    if many.numel():
        some, guess = problem.take(many), split.take(many)
        vertex = polish(some, guess.zero, some.adjoint(some.targets), guess.dual)
        done.put(many[vertex.accepted], vertex, vertex.accepted, 0)
        many = many[~vertex.accepted]
    if many.numel():
        guess = split.take(many)
        vertex = fit_many(problem.take(many), guess.zero, guess.dual)
        done.put(many[vertex.accepted], vertex, vertex.accepted, 0)


def _follow_edges(problem: Problem, rows: Tensor, limit: int) -> Candidate:
    """Descend from the vertices through the given rows in double precision, a pivot at a time."""
    done, part = Candidate.start(problem), problem
    alive, corner = torch.arange(len(rows), device=rows.device), _corner(problem, rows)
    for used in range(limit + 1):
        beyond = part.reach(corner.dual).gather(1, corner.rows)
        worst, leaving = beyond.max(1)
        good = worst <= 1 + _OUTSIDE
        stop = good | corner.lost | ~worst.isfinite() | (used == limit)
        # Copies of the inverses are dear: let finished problems idle until they are half of all.
        if 2 * int(stop.sum()) >= alive.numel() or bool(stop.all()):
            chosen = good.nonzero()[:, 0]
            _finish(part.take(chosen), corner.take(chosen), alive[chosen], done, used)
            going = (~stop).nonzero()[:, 0]
            alive, part, corner, leaving = alive[going], part.take(going), corner.take(going), leaving[going]
            stop = stop[going]
        if not alive.numel():
            break
        corner = _pivot(part, corner, leaving, stop)
    return done


def _corner(problem: Problem, rows: Tensor) -> Corner:
    """Solve for the vertices through the given rows."""
    inverse, code = inverses(problem.basis[rows])
    coefficients = torch.zeros_like(problem.targets[:, : problem.size])
    for _ in range(2):
        right = problem.residuals(coefficients).gather(1, rows)[:, :, None]
        coefficients = coefficients + (inverse @ right)[:, :, 0]
    residuals = problem.residuals(coefficients).scatter_(1, rows, 0.0)
    corner = Corner(rows, inverse, coefficients, residuals, residuals, code > 0)
    return replace(corner, dual=_dual(problem, corner))


def _dual(problem: Problem, corner: Corner) -> Tensor:
    """Complete the signs of the residuals on the rows of the vertex."""
    dual = problem.signs(corner.residuals).scatter_(1, corner.rows, 0.0)
    right = problem.adjoint(dual)[:, None]
    return dual.scatter_(1, corner.rows, -(right @ corner.inverse)[:, 0])


@dataclass(frozen=True)
class Edge:
    """A way out of every vertex: c moves by t·move, the residuals by −t·slope, that of the row left by side·t.

    Attributes:
        place: Position of the row left among those of the vertex, shape (p, 1).
        left: The row left, shape (p, 1).
        side: Sign of its residual afterwards, shape (p, 1).
        column: Its column of the inverse, shape (p, k).
        move: Shape (p, k).
        slope: Shape (p, d), zero on the rows of the vertex.
        start: Slope of the loss at t = 0, below zero where the dual is outside its box; shape (p, 1).
    """

    place: Tensor
    left: Tensor
    side: Tensor
    column: Tensor
    move: Tensor
    slope: Tensor
    start: Tensor


def _edge(problem: Problem, corner: Corner, leaving: Tensor) -> Edge:
    place = leaving[:, None]
    left = corner.rows.gather(1, place)
    dual = corner.dual.gather(1, left)
    side = dual.sign()
    box = problem.losses(torch.zeros_like(corner.dual).scatter_(1, left, side)).gather(1, left)
    column = corner.inverse.gather(2, leaving[:, None, None].expand(-1, problem.size, 1))[:, :, 0]
    move = -side * column
    slope = problem.fit(move).scatter_(1, corner.rows, 0.0)
    return Edge(place, left, side, column, move, slope, box - side * dual)


def _search(problem: Problem, corner: Corner, edge: Edge) -> tuple[Tensor, Tensor]:
    """Follow the edge through the rows it crosses until the loss rises: length (infinite if never), row hit."""
    length = corner.residuals / edge.slope
    length = torch.where((length >= 0) & (edge.slope.abs() > _PIVOT), length, torch.inf)
    ordered, order = length.sort(1)
    jump = (edge.slope.abs() * (problem.upper + problem.lower)).gather(1, order).cumsum(1)
    hit = (jump + edge.start >= 0).to(torch.int8).argmax(1, keepdim=True)
    return ordered.gather(1, hit), order.gather(1, hit)


def _pivot(problem: Problem, corner: Corner, leaving: Tensor, idle: Tensor) -> Corner:
    """Exchange one row of every vertex that is not idle; its inverse changes in place."""
    edge = _edge(problem, corner, leaving)
    step, entering = _search(problem, corner, edge)
    lost = corner.lost | ~step.isfinite()[:, 0]
    halt = (idle | lost)[:, None]
    step = step.masked_fill(halt, 0.0)
    residuals = torch.addcmul(corner.residuals, step, edge.slope, value=-1)
    residuals.scatter_(1, entering, 0.0).scatter_(1, edge.left, edge.side * step)
    row = (problem.basis[entering[:, 0]][:, None] @ corner.inverse)[:, 0]
    row.scatter_add_(1, edge.place, -torch.ones_like(step))
    scale = torch.where(halt, 0.0, 1 / (-edge.side * edge.slope.gather(1, entering)))
    inverse = corner.inverse.baddbmm_((edge.column * scale)[:, :, None], row[:, None], alpha=-1)
    moved = Corner(
        torch.where(halt, corner.rows, corner.rows.scatter(1, edge.place, entering)),
        inverse,
        torch.addcmul(corner.coefficients, step, edge.move),
        torch.where(halt, corner.residuals, residuals),
        corner.dual,
        lost,
    )
    return replace(moved, dual=_dual(problem, moved))


def _finish(problem: Problem, corner: Corner, rows: Tensor, done: Candidate, used: int) -> None:
    """Refine the vertices, check them and store those that hold."""
    if not rows.numel():
        return
    coefficients = corner.coefficients
    for _ in range(2):
        right = problem.residuals(coefficients).gather(1, corner.rows)[:, :, None]
        coefficients = coefficients + (corner.inverse @ right)[:, :, 0]
    residuals = problem.residuals(coefficients)
    small = residuals.abs() <= problem.zero_level(coefficients)
    sound = small.gather(1, corner.rows).all(1) & (corner.inverse.abs().amax((1, 2)) < _LARGE)
    residuals = residuals.masked_fill(small, 0.0)
    plain = sound & (small.sum(1) == problem.size)
    corner = replace(corner, residuals=residuals)
    dual = _dual(problem, corner)
    defect = problem.adjoint(dual)[:, None]
    dual.scatter_add_(1, corner.rows, -(defect @ corner.inverse)[:, 0])
    inside = (problem.reach(dual).gather(1, corner.rows) < 1).all(1)
    vertex = Vertex(coefficients, residuals, dual, plain & inside)
    done.put(rows[vertex.accepted], vertex, vertex.accepted, used)
    # More zeros than coefficients: the dual on them is for the polish to choose.
    more = (sound & ~plain).nonzero()[:, 0]
    if more.numel():
        again = polish(
            problem.take(more), small[more], coefficients[more], dual[more].masked_fill(small[more], 0.0)
        )
        done.put(rows[more[again.accepted]], again, again.accepted, used)
