"""From the points that the methods found to the `Solution` with its proofs, in the caller's units."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver._boxed import boxed_dual
from depurate.solver._certificate import (
    STRICTLY,
    Certificate,
    certify,
    strictly_convex,
    strictly_inside,
    with_rounding,
)
from depurate.solver._problem import Problem
from depurate.solver._setup import Setup
from depurate.solver._solution import Solution, status_of
from depurate.solver._vertex import Candidate

_BLOCK = 128
# Where the largest target exceeds the fit by this factor, target − residual loses digits that the fit itself has.
_HUGE = 64.0


def assemble(
    setup: Setup, problem: Problem, found: Candidate, weights: Tensor | None, tolerance: float, method: str
) -> Solution:
    """Certify what was found and translate it, block by block.

    `problem.targets` and the tensors of `found` become the result; neither is of use afterwards.
    """
    count, device = problem.targets.shape[0], found.dual.device
    # Filled in place: small tensors kept from every block would fragment the memory that the blocks share.
    objective, gap, margin = (problem.targets.new_empty(count) for _ in range(3))
    zeros = torch.empty(count, dtype=torch.int64, device=device)
    unique = torch.empty(count, dtype=torch.bool, device=device)
    for rows in torch.split(torch.arange(count, device=device), _BLOCK):
        proof, sure = _certify_block(setup, problem, found, rows, tolerance)
        objective[rows], gap[rows], margin[rows], zeros[rows] = (
            proof.objective,
            proof.gap,
            proof.margin,
            proof.zeros,
        )
        unique[rows] = (proof.gap <= tolerance) & sure
        del proof, sure
    coefficients, own = setup.coefficients(found.coefficients)
    return Solution(
        coefficients=coefficients.T,
        extra_coefficients=None if own is None else own.T,
        fitted=problem.targets.T,
        residuals=found.residuals.T,
        dual=found.dual.T,
        objective=setup.losses(objective),
        gap=gap,
        margin=margin,
        unique=unique,
        zeros=zeros,
        certified=unique,
        status=status_of(unique, (gap <= tolerance).tolist()),
        iterations=found.iterations,
        weights=None if weights is None else weights.T,
        rank=setup.basis.rank,
        method=method,
        seconds=0.0,
    )


def _certify_block(
    setup: Setup, problem: Problem, found: Candidate, rows: Tensor, tolerance: float
) -> tuple[Certificate, Tensor]:
    """Certify some problems, also as to uniqueness; put their dual, fit and scaled residuals in place."""
    part, coefficients, residuals = problem.take(rows), found.coefficients[rows], found.residuals[rows]
    proof = certify(part, coefficients, residuals, found.dual[rows])
    if part.linear and part.own is None:
        close = (proof.margin >= 1 - STRICTLY) & (proof.zeros > part.size) & found.vertex[rows]
        proof = _further_inside(part, coefficients, residuals, proof, close.nonzero()[:, 0])
    doubt = setup.basis.doubt
    sure = (
        found.vertex[rows] & strictly_inside(part, proof, residuals, doubt)
        if part.linear
        else strictly_convex(part, proof, tolerance)
    )
    proof = with_rounding(part, proof, coefficients, doubt)
    size = setup.size[rows]
    fitted = part.targets - residuals
    fit = torch.linalg.vector_norm(coefficients, dim=1) / fitted.shape[1] ** 0.5
    huge = (residuals.amax(1).maximum(-residuals.amin(1)) > _HUGE * fit).nonzero()[:, 0]
    if huge.numel():
        exact = residuals[huge] == 0
        fitted[huge] = torch.where(exact, part.targets[huge], part.take(huge).fit(coefficients[huge]))
    found.dual[rows] = proof.dual if setup.weight is None else proof.dual * setup.weight[rows]
    problem.targets[rows] = fitted.mul_(size)
    found.residuals[rows] = residuals.mul_(size)
    return proof, sure


def _further_inside(
    part: Problem, coefficients: Tensor, residuals: Tensor, proof: Certificate, close: Tensor
) -> Certificate:
    """Certify some problems by another dual further inside: with more zeros than coefficients there are many."""
    if not close.numel():
        return proof
    problem, zeros = part.take(close), residuals[close]
    dual, good = boxed_dual(problem, zeros, proof.dual[close])
    better = certify(problem, coefficients[close], zeros, dual)
    good &= (better.gap <= proof.gap[close].clamp_min(STRICTLY)) & (better.margin < proof.margin[close])
    taken = close[good]
    for old, new in (
        (proof.gap, better.gap),
        (proof.margin, better.margin),
        (proof.dual, better.dual),
    ):
        old[taken] = new[good]
    return proof
