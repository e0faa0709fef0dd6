"""Frisch-Newton: a primal-dual interior point method, batched over problems that share one basis.

Portnoy & Koenker, The Gaussian hare and the Laplacian tortoise, Statistical Science 12 (1997), with
Mehrotra's predictor and corrector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._gram import gram_table
from depurate.solver._normal import Normal, normal_equations
from depurate.solver._problem import Problem
from depurate.solver._start import Start
from depurate.solver._vertex import Candidate, Vertex, polish

STEP = 0.9995
# Below this relative gap the normal equations are too ill conditioned for a single precision factor.
_NEAR = 1e-4
# A problem whose vertex is not found yet goes on below the tolerance by this factor: one huge residual can
# make the relative gap tiny while the other rows are still far from settled.
_BEYOND = 1e-4
# A common step goes at least so far: where Bᵀz = Rc does not hold yet, the products may have to grow first.
_SHORTEST = 0.3


@dataclass(frozen=True)
class Iterate:
    """Points with e = y − Qc = above − below and z strictly inside its box, one row a problem."""

    coefficients: Tensor
    dual: Tensor
    above: Tensor
    below: Tensor

    def take(self, rows: Tensor) -> Iterate:
        """Pick the given problems."""
        return Iterate(self.coefficients[rows], self.dual[rows], self.above[rows], self.below[rows])

    def where(self, keep: Tensor, other: Iterate) -> Iterate:
        """Keep these points where `keep`, take the other elsewhere."""
        rows = keep[:, None]
        return Iterate(
            torch.where(rows, self.coefficients, other.coefficients),
            torch.where(rows, self.dual, other.dual),
            torch.where(rows, self.above, other.above),
            torch.where(rows, self.below, other.below),
        )


def interior_start(problem: Problem) -> Iterate:
    """Start at z = 0 and the least squares c, with its ridge, both multipliers lifted by the mean residual."""
    coefficients = problem.adjoint(problem.targets)
    if problem.ridge is not None:  # directions that it all but forbids would be far too long
        coefficients = coefficients / (1 + problem.ridge)
    residuals = problem.residuals(coefficients)
    lift = residuals.abs().mean(1, keepdim=True).clamp_min(torch.finfo(residuals.dtype).tiny)
    above, below = residuals.clamp_min(0) + lift, (-residuals).clamp_min(0) + lift
    return Iterate(coefficients, torch.zeros_like(residuals), above, below)


def interior_step(problem: Problem, point: Iterate, normal: Normal) -> Iterate:
    """Take one predictor and corrector step in every problem; `normal` prepares (Qᵀ diag(w) Q) x = b."""
    over, under = problem.upper - point.dual, problem.lower + point.dual
    stiffness = point.above / over + point.below / under
    primal = problem.residuals(point.coefficients) - point.above + point.below
    if problem.smoothing is not None:
        stiffness, primal = stiffness + problem.smoothing, primal - problem.smoothing * point.dual
    weight = 1 / stiffness
    solve = normal(problem, weight, spread(problem, point) < _NEAR)
    defect = problem.pull(point.coefficients) - problem.adjoint(point.dual)

    def direction(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        force = primal - high / over + low / under
        step = solve(problem.adjoint(weight * force) - defect)
        dual = weight * (force - problem.fit(step))
        return step, dual, (high + point.above * dual) / over, (low - point.below * dual) / under

    _, dual, above, below = direction(-point.above * over, -point.below * under)
    mean = (point.above * over + point.below * under).mean(1, keepdim=True) / 2
    grow, move = step_lengths(point, over, under, dual, above, below)
    ahead = (point.above + grow * above) * (over - move * dual) + (point.below + grow * below) * (
        under + move * dual
    )
    target = mean * (ahead.mean(1, keepdim=True) / 2 / mean).clamp(0, 1) ** 3
    high = target - point.above * over + above * dual
    low = target - point.below * under - below * dual
    step, dual, above, below = direction(high, low)
    grow, move = _lengths(problem, point, over, under, dual, above, below)
    return Iterate(
        point.coefficients + grow * step,
        point.dual + move * dual,
        point.above + grow * above,
        point.below + grow * below,
    )


def step_lengths(
    point: Iterate, over: Tensor, under: Tensor, dual: Tensor, above: Tensor, below: Tensor
) -> tuple[Tensor, Tensor]:
    """Find the longest steps (of the multipliers, of z) that stay positive, at most 1/0.9995."""
    shrink = torch.maximum(-above / point.above, -below / point.below).amax(1, keepdim=True)
    press = torch.maximum(dual / over, -dual / under).amax(1, keepdim=True)
    return 1 / shrink.clamp_min(STEP), 1 / press.clamp_min(STEP)


def _lengths(
    problem: Problem, point: Iterate, over: Tensor, under: Tensor, dual: Tensor, above: Tensor, below: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose the lengths of a step, 0.9995 of the longest ones and at most 1.

    Smoothing and a ridge tie multipliers and z together: with the longest step for each they can bounce from one bound
    of the box to the other for ever. There one length for both, at which the products that are to vanish have the least
    sum (a quadratic in the length), is taken instead where it leaves a smaller one.
    """
    grow, move = step_lengths(point, over, under, dual, above, below)
    grow, move = (STEP * grow).clamp_max(1.0), (STEP * move).clamp_max(1.0)
    if problem.linear:
        return grow, move

    def products(grow: Tensor, move: Tensor) -> Tensor:
        high = (point.above + grow * above) * (over - move * dual)
        return (high + (point.below + grow * below) * (under + move * dual)).sum(1, keepdim=True)

    slope = (above * over - point.above * dual + below * under + point.below * dual).sum(1, keepdim=True)
    curve = 2 * ((below - above) * dual).sum(1, keepdim=True)
    least = torch.where((curve > 0) & (slope < 0), -slope / curve, torch.inf)
    longest = torch.minimum(grow, move)
    common = torch.minimum(longest, torch.maximum(least, _SHORTEST * longest))
    better = products(grow, move) <= products(common, common)
    return torch.where(better, grow, common), torch.where(better, move, common)


def zero_rows(problem: Problem, point: Iterate) -> Tensor:
    """Guess the rows of zero residual: those with more room left in the dual than relative residual."""
    residuals = (point.above - point.below).abs()
    room = torch.minimum(problem.upper - point.dual, problem.lower + point.dual)
    # The scale is the geometric mean of the residuals near a bound: a few huge ones must not set it.
    bound = (room < 0.5 * torch.minimum(problem.upper, problem.lower)).to(residuals.dtype)
    logs = residuals.clamp_min(torch.finfo(residuals.dtype).tiny).log()
    scale = ((bound * logs).sum(1) / bound.sum(1).clamp_min(1)).exp()
    return residuals < scale[:, None] * room


def likeliest_rows(problem: Problem, point: Iterate) -> Tensor:
    """Mark as many rows as `ranks` says: those with the least residual for the room left in the dual."""
    residuals = (point.above - point.below).abs()
    room = torch.minimum(problem.upper - point.dual, problem.lower + point.dual)
    ratio = residuals / room.clamp_min(torch.finfo(room.dtype).tiny)
    rows = ratio.topk(min(problem.size, ratio.shape[1]), dim=1, largest=False).indices
    wanted = torch.arange(rows.shape[1], device=rows.device) < problem.ranks[:, None]
    return torch.zeros_like(ratio, dtype=torch.bool).scatter_(1, rows, wanted)


def spread(problem: Problem, point: Iterate) -> Tensor:
    """Measure the relative complementarity gap of every problem."""
    gap = (point.above * (problem.upper - point.dual) + point.below * (problem.lower + point.dual)).sum(1)
    loss = (problem.upper * point.above + problem.lower * point.below).sum(1)
    if problem.smoothing is not None:
        loss = loss + 0.5 * (problem.smoothing * point.dual * point.dual).sum(1)
    if problem.ridge is not None:
        loss = loss + 0.5 * (point.coefficients * problem.pull(point.coefficients)).sum(1)
    return gap / loss


@dataclass(frozen=True)
class Path:
    """How points move and how a vertex is tried.

    Attributes:
        step: Takes a step from points.
        vertex: Tries for vertices where the given rows are zero, from points.
        coefficients: Tells the coefficients at points.
    """

    step: Callable[[Problem, Iterate], Iterate]
    vertex: Callable[[Problem, Tensor, Iterate], Vertex]
    coefficients: Callable[[Problem, Iterate], Tensor]


def solve_interior(
    problem: Problem, tolerance: float, max_iterations: int, start: Start | None = None
) -> Candidate:
    """Step until a vertex is verified or the gap is far below `tolerance`; finished problems leave.

    Args:
        problem: The problems, p of them.
        tolerance: Relative complementarity at which a problem without a vertex stops.
        max_iterations: Steps at most.
        start: Its rows of zero residual are tried once before the first step.
    """
    normal, table = normal_equations(problem), gram_table(problem.basis)
    path = Path(
        lambda part, point: interior_step(part, point, normal),
        lambda part, zero, point: polish(part, zero, point.coefficients, point.dual, table),
        lambda part, point: point.coefficients,
    )
    first = None
    if start is not None:
        # Not from its coefficients: where they are far off, three refinements would not make up for it.
        first = polish(problem, start.zero, problem.adjoint(problem.targets), start.dual, table)
    return follow(problem, first, interior_start, path, tolerance, max_iterations)


def follow(
    problem: Problem,
    first: Vertex | None,
    begin: Callable[[Problem], Iterate],
    path: Path,
    tolerance: float,
    max_iterations: int,
) -> Candidate:
    """Follow a path from its beginning, where the first vertices do not hold, trying others as rows at zero settle."""
    done, part = Candidate.start(problem), problem
    alive = torch.arange(problem.targets.shape[0], device=problem.targets.device)
    if first is not None:
        done.put(alive[first.accepted], first, first.accepted, 0)
        alive = alive[~first.accepted]
        part = problem.take(alive)
        if not alive.numel():
            return done
    point = begin(part)
    before = torch.zeros_like(part.targets, dtype=torch.bool)
    for iteration in range(1, max_iterations + 1):
        ahead = path.step(part, point)
        stuck = ~(ahead.coefficients.isfinite().all(1) & ahead.dual.isfinite().all(1))
        point = ahead.where(~stuck, point)
        gap, zero = spread(part, point), zero_rows(part, point)
        finished = torch.zeros_like(stuck)
        # Settled rows, as many as coefficients at least: time to try them.
        settled = (zero == before).all(1) & (zero.sum(1) >= part.ranks)
        ready = (settled if part.linear else torch.zeros_like(settled)).nonzero()[:, 0]
        before = zero
        if ready.numel():
            vertex = path.vertex(part.take(ready), zero[ready], point.take(ready))
            done.put(alive[ready[vertex.accepted]], vertex, vertex.accepted, iteration)
            finished[ready] = vertex.accepted
            before[ready[~vertex.accepted]] = False
        stopped = ~finished & ((gap < tolerance * _BEYOND) | stuck)
        if iteration == max_iterations:
            stopped = ~finished
        if bool(stopped.any()) and part.linear:
            # The last try: the likeliest rows, as many as coefficients.
            last = stopped.nonzero()[:, 0]
            near, here = part.take(last), point.take(last)
            vertex = path.vertex(near, likeliest_rows(near, here), here)
            done.put(alive[last[vertex.accepted]], vertex, vertex.accepted, iteration)
            finished[last], stopped[last] = vertex.accepted, ~vertex.accepted
        left = stopped.nonzero()[:, 0]
        if left.numel():
            here = point.take(left)
            coefficients = path.coefficients(part.take(left), here)
            done.put_point(problem, alive[left], coefficients, here.dual, iteration)
        keep = (~(finished | stopped)).nonzero()[:, 0]
        if keep.numel() < alive.numel():
            alive, part, point, before = alive[keep], part.take(keep), point.take(keep), before[keep]
        if not alive.numel():
            break
    return done
