"""Which method solves which targets: blocks, automatic choice, reweighting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from depurate.solver._complement import solve_complement
from depurate.solver._descent import solve_descent
from depurate.solver._interior import solve_interior
from depurate.solver._masks import largest
from depurate.solver._problem import Problem
from depurate.solver._start import Start
from depurate.solver._trimming import solve_trimming
from depurate.solver._vertex import Candidate

METHODS: dict[str, Callable[[Problem, float, int, Start | None], Candidate]] = {
    "complement": solve_complement,
    "descent": solve_descent,
    "interior": solve_interior,
    "trimming": solve_trimming,
}
# Targets of one call of trimming, of one block, and bytes the interior point method may use for Gram matrices.
_CHUNK, _BLOCK = 512, 128
_GRAM_BYTES = 1 << 28
# Trimming pays where sparse noise can be told from the span at all: with rows to spare, and not a handful of them.
# Descent pays where a factorisation costs far more than a product.
_ROWS, _SHARE, _RANK = 64, 0.7, 24
# Rows beyond the rank, in units of the rank, up to which the complement is the smaller side to work on.
_NARROW = 0.25
# Reweighting: the residual at which a row's weight has halved, in medians of the nonzero residuals.
_HALF = 1.0
# Targets that show this little in a random direction off the span may lie in it.
_CLOSE = 1e-3


def solve(
    problem: Problem, method: str, tolerance: float, max_iterations: int, start: Start | None = None
) -> Candidate:
    """Solve all problems, block by block; targets inside the span need no method."""
    found = _inside_span(problem)
    rest = (~found.vertex).nonzero()[:, 0]
    if problem.size == 0 or not rest.numel():
        return found
    if method == "trimming":
        start = None  # which only tells what to leave to other methods
    for name in _order(problem) if method == "auto" else (method,):
        size, width = rest.numel(), _width(problem, name)
        if size == problem.targets.shape[0] <= width:
            found = METHODS[name](problem, tolerance, max_iterations, start)
        else:
            for block in torch.split(rest, width):
                begin = None if start is None else start.take(block)
                part = problem.take(block)
                found.fill(block, METHODS[name](part, tolerance, max_iterations, begin))
        rest = rest[~found.vertex[rest]]
        if not rest.numel():
            break
    return found


def _order(problem: Problem) -> tuple[str, ...]:
    """List the methods that are worth their while, the cheapest first."""
    rows, rank = problem.basis.shape
    if not problem.linear or problem.own is not None or rows < _ROWS:
        return ("interior",)
    if rows - rank <= _NARROW * rank:
        return ("complement", "interior")
    trimming = ("trimming",) if rank <= _SHARE * rows else ()
    return (*trimming, *(("descent",) if rank >= _RANK else ()), "interior")


def _width(problem: Problem, name: str) -> int:
    """Give the number of targets that one call of a method may have."""
    if name == "trimming":
        return _CHUNK
    size = problem.basis.shape[0] - problem.size if name == "complement" else problem.size
    return max(1, min(_BLOCK, _GRAM_BYTES // (32 * max(1, size) ** 2)))


def _inside_span(problem: Problem) -> Candidate:
    """Start the collection with the targets that least squares fits to rounding, and all where there is no span."""
    found = Candidate.start(problem)
    if problem.size == 0:
        found.residuals.copy_(problem.targets)
        found.dual.copy_(problem.slopes(problem.targets))
        found.vertex[:] = True
    elif problem.linear:
        # A random direction orthogonal to the span tells nearly all others from those inside, at next to no cost.
        generator = torch.Generator().manual_seed(0)
        probe = torch.randn(1, problem.basis.shape[0], generator=generator, dtype=problem.basis.dtype)
        probe = probe.to(problem.basis.device)
        probe = probe - (probe @ problem.basis) @ problem.basis.T
        probe = probe / torch.linalg.vector_norm(probe).clamp_min(torch.finfo(probe.dtype).tiny)
        seen, peak = (problem.targets @ probe.T).abs()[:, 0], largest(problem.targets)
        # Where the span is all there is, no direction is off it.
        plain = problem.own is None and problem.basis.shape[1] < problem.basis.shape[0]
        near = seen <= (_CLOSE if plain else torch.inf) * peak
        for rows in torch.split(near.nonzero()[:, 0], _BLOCK):
            part = problem.take(rows)
            guess = part.adjoint(part.targets)
            guess = guess + part.adjoint(part.residuals(guess))
            inside = (part.residuals(guess).abs() <= part.zero_level(guess)).all(1)
            found.coefficients[rows[inside]] = guess[inside]
            found.residuals[rows[inside]] = 0.0
            found.vertex[rows[inside]] = True
    return found


def reweigh(
    problem: Problem, found: Candidate, times: int, method: str, tolerance: float, max_iterations: int
) -> tuple[Tensor, Candidate]:
    """Solve again with weights 1/(1 + |e|/δ) where the zeros are no more than the coefficients.

    Candès, Wakin & Boyd, Enhancing sparsity by reweighted l1 minimization (2008). Targets whose noise has shown itself
    sparse keep their solution.

    Returns:
        The weights used last, shape (p, d), and the solutions of the weighted problems.
    """
    weights = torch.ones_like(problem.targets)
    for _ in range(times):
        zeros = (found.residuals == 0).sum(1)
        rows = ((zeros <= problem.ranks) & (zeros < found.residuals.shape[1])).nonzero()[:, 0]
        if not rows.numel():
            break
        size = found.residuals[rows].abs()
        middle = torch.where(size > 0, size, torch.nan).nanmedian(1, keepdim=True).values
        weights[rows] = 1 / (1 + size / (_HALF * middle))
        part = weighted(problem, weights).take(rows)
        start = Start.of(found, problem.size).take(rows)
        found.fill(rows, solve(part, method, tolerance, max_iterations, start))
    return weights, found


def weighted(problem: Problem, weights: Tensor) -> Problem:
    """Multiply the losses of all rows by weights of shape (p, d)."""
    return replace(problem, lower=problem.lower * weights, upper=problem.upper * weights)
