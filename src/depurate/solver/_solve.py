"""Which method solves which targets: blocks, automatic choice, reweighting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from depurate.solver._interior import solve_interior
from depurate.solver._problem import Problem
from depurate.solver._trimming import solve_trimming
from depurate.solver._vertex import Candidate

METHODS: dict[str, Callable[[Problem, float, int], Candidate]] = {
    "interior": solve_interior,
    "trimming": solve_trimming,
}
# Targets a block of trimming holds at once, and bytes the interior point method may use for Gram matrices.
_BLOCK = 128
_GRAM_BYTES = 1 << 28
# Trimming pays where sparse noise can be told from the span at all: with rows to spare, and not a handful of them.
_ROWS, _SHARE = 64, 0.7
# Reweighting: the residual at which a row's weight has halved, in medians of the nonzero residuals.
_HALF = 1.0
# Targets whose least squares residual is this small may lie in the span.
_CLOSE = 1e-3


def solve(problem: Problem, method: str, tolerance: float, max_iterations: int) -> Candidate:
    """Solve all problems, block by block; targets inside the span need no method."""
    found = _inside_span(problem)
    rest = (~found.vertex).nonzero()[:, 0]
    if problem.size == 0 or not rest.numel():
        return found
    rows, rank = problem.basis.shape
    worth = rows >= _ROWS and rank <= _SHARE * rows
    if method == "trimming" or (method == "auto" and problem.linear and problem.own is None and worth):
        for block in torch.split(rest, _BLOCK):
            found.fill(block, solve_trimming(problem.take(block), tolerance, max_iterations))
        rest = rest[~found.vertex[rest]]
    if method != "trimming" and rest.numel():
        width = max(1, min(_BLOCK, _GRAM_BYTES // (32 * problem.size**2)))
        for block in torch.split(rest, width):
            found.fill(block, solve_interior(problem.take(block), tolerance, max_iterations))
    return found


def _inside_span(problem: Problem) -> Candidate:
    """Start the collection with the targets that least squares fits to rounding, and all where there is no span."""
    found = Candidate.start(problem)
    if problem.size == 0:
        found.residuals.copy_(problem.targets)
        found.dual.copy_(problem.signs(problem.targets))
        found.vertex[:] = True
    elif problem.linear:
        coefficients = problem.adjoint(problem.targets)
        size = problem.residuals(coefficients).abs().amax(1)
        rows = (size <= _CLOSE * problem.targets.abs().amax(1)).nonzero()[:, 0]
        part, guess = problem.take(rows), coefficients[rows]
        guess = guess + part.adjoint(part.residuals(guess))
        inside = (part.residuals(guess).abs() <= part.zero_level(guess)).all(1)
        found.coefficients[rows[inside]] = guess[inside]
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
        rows = ((found.residuals == 0).sum(1) <= problem.size).nonzero()[:, 0]
        if not rows.numel():
            break
        size = found.residuals[rows].abs()
        middle = torch.where(size > 0, size, torch.nan).nanmedian(1, keepdim=True).values
        weights[rows] = 1 / (1 + size / (_HALF * middle))
        part = weighted(problem, weights).take(rows)
        found.fill(rows, solve(part, method, tolerance, max_iterations))
    return weights, found


def weighted(problem: Problem, weights: Tensor) -> Problem:
    """Multiply the losses of all rows by weights of shape (p, d)."""
    return replace(problem, lower=problem.lower * weights, upper=problem.upper * weights)
