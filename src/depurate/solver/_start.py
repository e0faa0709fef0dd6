"""Starts given by the caller, in the basis and the units of the new problem.

Nothing is taken on trust. A start only says where methods look first; what they find has to pass the same proofs as
ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.errors import InputError
from depurate.solver._setup import Setup, check_tensor
from depurate.solver._solution import Solution
from depurate.solver._vertex import Candidate


@dataclass(frozen=True)
class Start:
    """What is believed of the solutions, one row a problem.

    Attributes:
        coefficients: Shape (p, k).
        rows: As many rows as coefficients that the solutions pass through, shape (p, k).
        zero: Rows of zero residual, these among them, at least as many as coefficients, shape (p, d), bool.
        dual: Shape (p, d); zero where nothing is known of it.
        generic: Whether no more rows than coefficients are known to have zero residual, shape (p,), bool.
    """

    coefficients: Tensor
    rows: Tensor
    zero: Tensor
    dual: Tensor
    generic: Tensor

    def take(self, rows: Tensor) -> Start:
        """Pick the given problems."""
        return Start(
            self.coefficients[rows], self.rows[rows], self.zero[rows], self.dual[rows], self.generic[rows]
        )

    @staticmethod
    def of(found: Candidate, size: int) -> Start:
        """Start from solutions just found, of problems with so many coefficients."""
        zero = found.residuals == 0
        rows = found.residuals.abs().topk(min(size, zero.shape[1]), dim=1, largest=False).indices
        return Start(found.coefficients, rows, zero.scatter(1, rows, True), found.dual, zero.sum(1) <= size)


@dataclass(frozen=True)
class Given:
    """A start as the caller gave it, checked, with a dimension of targets.

    Attributes:
        coefficients: Shape (r, p).
        residuals: Shape (d, p), or None where coefficients alone were given.
        dual: Shape (d, p), or None as well.
    """

    coefficients: Tensor
    residuals: Tensor | None
    dual: Tensor | None

    def take(self, rows: Tensor, chosen: Tensor) -> Given:
        """Pick some rows of some targets."""
        return Given(
            self.coefficients[:, chosen],
            None if self.residuals is None else self.residuals[rows][:, chosen],
            None if self.dual is None else self.dual[rows][:, chosen],
        )


def check_start(start: Solution | Tensor, design: Tensor, targets: Tensor) -> Given:
    """Check that a start fits the problem.

    Args:
        start: A solution of a problem of the same shape, or coefficients alone.
        design: A, shape (d, r).
        targets: Y, shape (d, p) or (d,).

    Raises:
        InputError: It does not fit.
    """
    if not isinstance(start, Solution):
        check_tensor(start, "start")
    flat = targets.ndim == 1
    coefficients = start.coefficients if isinstance(start, Solution) else start
    coefficients = coefficients[:, None] if flat and coefficients.ndim == 1 else coefficients
    shape = (design.shape[1], 1 if flat else targets.shape[1])
    if tuple(coefficients.shape) != shape:
        raise InputError(f"start: coefficients of shape {tuple(coefficients.shape)}; expected {shape}")
    if coefficients.device != design.device or not bool(coefficients.isfinite().all()):
        raise InputError(f"start: expected finite coefficients on {design.device}")
    if not isinstance(start, Solution):
        return Given(coefficients, None, None)
    residuals = start.residuals[:, None] if start.residuals.ndim == 1 else start.residuals
    dual = start.dual[:, None] if start.dual.ndim == 1 else start.dual
    if residuals.shape[0] != design.shape[0]:
        raise InputError(f"start: residuals of {residuals.shape[0]} rows; expected {design.shape[0]}")
    if residuals.shape != dual.shape or residuals.shape[1] != shape[1]:
        raise InputError(
            f"start: residuals {tuple(residuals.shape)}, dual {tuple(dual.shape)}; not of one solution"
        )
    return Given(coefficients, residuals, dual)


def read_start(given: Given, design: Tensor, setup: Setup) -> Start:
    """Translate a start to the basis and the units of the problem.

    Args:
        given: The start, checked.
        design: A, shape (d, r).
        setup: The new problem, p targets.
    """
    problem = setup.problem
    fitted = (design.detach() @ given.coefficients.detach().to(design.dtype)).T.to(torch.float64) / setup.size
    coefficients = fitted @ problem.basis
    score = problem.residuals(coefficients).abs_().div_(problem.lengths.clamp_min(1e-300))
    zero, dual = torch.zeros_like(score, dtype=torch.bool), torch.zeros_like(score)
    generic = torch.zeros(len(score), dtype=torch.bool, device=score.device)
    if given.residuals is not None and given.dual is not None:
        zero = (given.residuals == 0).T
        dual = given.dual.T.to(torch.float64).nan_to_num()
        dual = dual if setup.weight is None else dual / setup.weight
        dual = torch.minimum(torch.maximum(dual, -problem.lower), problem.upper)
        generic = zero.sum(1) <= problem.size
    # Rows that are not known to be zero are ranked behind those that are.
    score = score.masked_fill(zero, -1.0)
    nearest = score.topk(min(problem.size, score.shape[1]), dim=1, largest=False).indices
    return Start(coefficients, nearest, zero.scatter(1, nearest, True), dual, generic)
