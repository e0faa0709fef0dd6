"""Trimming: find the rows that sparse noise has spared, fit them exactly, prove it by a dual.

A race in single precision finds the support of the noise. Least squares on the other rows, refined in double
precision, is exact; it goes through the rows held out where they are few and by conjugate gradients where they are
many. Nothing here assumes that the race succeeds: the dual decides, and what it does not accept is left to other
methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._completion import complete_dual, dual_through_held
from depurate.solver._heldout import HeldOut, hold_out, residual_projector
from depurate.solver._krylov import conjugate_gradients, smallest_eigenvalue
from depurate.solver._masks import at_most
from depurate.solver._problem import Problem
from depurate.solver._race import Pace, Runners, race
from depurate.solver._start import Start
from depurate.solver._vertex import Candidate, Vertex

# The race that most targets win, and the one for those that lose rows they need in it.
_FAST, _SAFE = Pace(3.3, 1, 14), Pace(2.5, 3, 36)
# Rows are held out above this multiple of the last threshold, which is this multiple of the mean of the rows kept.
_BEYOND, _KEEP = 1.5, 3.3
_ROUNDS, _DUAL_ROUNDS = 6, 10
# Bytes of one double precision array of a block, and of its factors: about what a cache holds. A GPU wants more work
# for each of its kernels, or it waits for the next one to be asked for.
_BLOCK_BYTES, _FACTOR_BYTES = 1 << 20, 1 << 25
_GPU_BLOCK_BYTES, _GPU_FACTOR_BYTES = 1 << 23, 1 << 28
# Up to this many rows held out, or this share of the coefficients, the rows held are factored.
_FEW, _FEW_SHARE = 64, 0.7
# Rows kept must leave the Gram matrix (whose eigenvalues are at most 1) no eigenvalue below this.
_EIGENVALUE, _PROBE = 0.02, 7
# Refinement goes on until the rows kept are below the zero level by this factor.
_WELL = 0.1
# Error that one solve in single precision leaves, relatively.
_LEFT, _MOST_STEPS = 2e-6, 24


@dataclass(frozen=True)
class Shared:
    """What all blocks use: the basis in single precision, its table, and how many rows held out are few."""

    single: Tensor
    table: Tensor | None
    few: int


def solve_trimming(
    problem: Problem, tolerance: float, max_iterations: int, start: Start | None = None
) -> Candidate:
    """Find the rows of zero residual by trimming, verify them by a dual; problems that fail stay unsolved.

    Args:
        problem: The problems, p of them.
        tolerance: Not used: an accepted solution is exact to rounding.
        max_iterations: Steps at most of each phase.
        start: Targets with no more zeros than coefficients there are left alone; the others race as ever.
    """
    single, count = problem.basis.float(), problem.basis.shape[0]
    done = Candidate.start(problem)
    hopeful = torch.ones_like(done.vertex) if start is None else ~start.generic
    ended = _race_all(problem, single, hopeful, max_iterations)
    rows = ended.arrived.nonzero()[:, 0]
    if not rows.numel():
        return done
    few = max(_FEW, int(_FEW_SHARE * single.shape[1]))
    typical = min(few, count - int(ended.kept[rows].median()))
    shared = Shared(single, residual_projector(single, rows.numel(), typical), few)
    rounds = min(max_iterations, _ROUNDS)
    for used in range(1, rounds + 1):
        left = [
            block[_solve_block(problem, shared, ended, block, done, last=used == rounds)]
            for block in _blocks(rows, ended, shared)
        ]
        rows = torch.cat(left)
        if not rows.numel():
            break
    return done


def _race_all(problem: Problem, single: Tensor, hopeful: Tensor, limit: int) -> Runners:
    """Run the fast race for the targets marked, and the safe one for who did not arrive."""
    count, rank = problem.targets.shape[0], single.shape[1]
    targets = problem.targets
    ended = Runners(
        targets.new_zeros(count, rank),
        single.new_zeros(count, 1),
        torch.zeros(count, dtype=torch.int64, device=single.device),
        torch.zeros(count, dtype=torch.bool, device=single.device),
    )
    width, _ = _room(single)
    for pace in (_FAST, _SAFE):
        running = (hopeful & ~ended.arrived).nonzero()[:, 0]
        if not running.numel():
            break
        for block in torch.split(running, width):
            steps = Pace(pace.keep, pace.steps, min(limit, pace.limit))
            ended.put(block, race(targets[block].float(), single, steps))
    return ended


def _blocks(rows: Tensor, ended: Runners, shared: Shared) -> Iterator[Tensor]:
    """Split targets into blocks of about as many rows held out, small enough for the cache and for their factors."""
    count = shared.single.shape[0]
    held = count - ended.kept[rows]
    order = held.argsort()
    rows, sizes = rows[order], held[order].tolist()
    start, (whole, room) = 0, _room(shared.single)
    while start < len(sizes):
        width = min(whole, len(sizes) - start)
        most = sizes[start + width - 1]
        if most <= shared.few:
            width = min(width, max(1, room // (4 * max(1, most) ** 2)))
        yield rows[start : start + width]
        start += width


def _room(basis: Tensor) -> tuple[int, int]:
    """Targets of one block, and bytes of their factors, where the basis lies."""
    block, factors = (
        (_BLOCK_BYTES, _FACTOR_BYTES) if basis.device.type == "cpu" else (_GPU_BLOCK_BYTES, _GPU_FACTOR_BYTES)
    )
    return max(64, block // (8 * len(basis))), factors


def _solve_block(
    problem: Problem, shared: Shared, ended: Runners, rows: Tensor, done: Candidate, *, last: bool
) -> Tensor:
    """Fit the given targets and prove those that are fitted; tell which of them to try again on other rows."""
    part = problem.take(rows)
    coefficients = ended.coefficients[rows]
    residuals = part.residuals(coefficients)
    kept = at_most(residuals.abs(), _BEYOND * ended.threshold[rows].to(residuals.dtype))
    equations = _equations(shared, kept)
    for _ in range(2):
        coefficients = _refine(part, shared.single, equations, kept, coefficients, residuals)
        residuals = part.residuals(coefficients)
    level, size = part.zero_level(coefficients), residuals.abs()
    small = at_most(size, level)
    spared = size.mul_(kept)
    enough = 1.0 if last else _WELL
    settled = ((spared - enough * level).amax(1) <= 0) & (small.sum(1) >= part.size)
    number = kept.sum(1)
    ended.coefficients[rows] = coefficients
    ended.kept[rows] = number.long()
    ended.threshold[rows] = (_KEEP * spared.sum(1) / number.clamp_min(1)).float()[:, None]
    residuals.addcmul_(residuals, small, value=-1)
    vertex = _prove(part, shared, equations, coefficients, residuals)
    proved = settled & vertex.accepted
    done.put(rows[proved], vertex, proved, 1)
    return ~settled & (number > part.size) & coefficients.isfinite().all(1)


def _equations(shared: Shared, kept: Tensor) -> HeldOut | None:
    """Factor the equations without the rows held out, unless they are many."""
    if kept.shape[1] - int(kept.sum(1).min()) > shared.few:
        return None
    return hold_out(shared.single, shared.table, kept == 0)


def _refine(
    problem: Problem,
    single: Tensor,
    equations: HeldOut | None,
    kept: Tensor,
    coefficients: Tensor,
    residuals: Tensor,
) -> Tensor:
    """Take one step of least squares on the rows kept, solved in single precision."""
    rest = residuals * kept
    size = torch.linalg.vector_norm(rest, dim=1, keepdim=True).clamp_min_(torch.finfo(rest.dtype).tiny)
    right = rest.div_(size).float() @ single
    if equations is None:
        mask = kept.float()
        move = conjugate_gradients(single, mask, right, _steps(single, mask))
    else:
        move = equations.solve(right)
    return torch.addcmul(coefficients, move.to(rest.dtype), size)


def _steps(single: Tensor, mask: Tensor) -> int:
    """Predict the steps of conjugate gradients from the spectrum of random rows of a random basis."""
    rows, rank = single.shape
    share, kept = rank / rows, float(mask.sum(1).min()) / rows
    high, low = math.sqrt(kept * (1 - share)), math.sqrt(share * (1 - kept))
    rate = min(high, low) / max(high, low, 1e-9)
    return _MOST_STEPS if rate > 0.5 else max(2, math.ceil(math.log(_LEFT) / math.log(max(rate, 1e-3))))


def _prove(
    problem: Problem, shared: Shared, equations: HeldOut | None, coefficients: Tensor, residuals: Tensor
) -> Vertex:
    """Find duals for fits with exact zeros."""
    if equations is None:
        dual, proved = complete_dual(problem, shared.single, residuals, _DUAL_ROUNDS)
        spared = 1 - residuals.sign().abs_().float()
        proved &= smallest_eigenvalue(shared.single, spared, _PROBE) > _EIGENVALUE
        return Vertex(coefficients, residuals, dual, proved)
    dual, proved = dual_through_held(problem, equations, residuals)
    return Vertex(coefficients, residuals, dual, proved & equations.full)
