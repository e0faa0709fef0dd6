"""Rows without weight: every target is solved without its own, so that nothing is claimed by means of them.

Targets that lack the same rows are solved together. What is known of the rows left out is what the coefficients say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from depurate.solver._basis import orthonormal_basis
from depurate.solver._masks import largest
from depurate.solver._setup import Options
from depurate.solver._solution import Solution, status_of
from depurate.solver._start import Given


@dataclass(frozen=True)
class Job:
    """What is to be solved, as the caller gave it: checked, targets and start with a dimension of targets.

    Attributes:
        design: A, shape (d, r).
        targets: Y, shape (d, p).
        options: Weights, own columns and the rest.
        rounding: Shape (1, 1) or (p, 1).
        start: Where to look first, or None.
    """

    design: Tensor
    targets: Tensor
    options: Options
    rounding: Tensor
    start: Given | None

    def take(self, rows: Tensor, chosen: Tensor) -> Job:
        """Pick some rows, marked in shape (d,), of some targets."""
        weights, extra = self.options.weights, self.options.extra
        if weights is not None:
            weights = weights[rows] if weights.ndim == 1 else weights[rows][:, chosen]
        return Job(
            self.design[rows],
            self.targets[rows][:, chosen],
            replace(
                self.options, weights=weights, extra=None if extra is None else extra[rows][:, :, chosen]
            ),
            self.rounding if len(self.rounding) == 1 else self.rounding[chosen],
            None if self.start is None else self.start.take(rows, chosen),
        )

    def weights_of(self, solution: Solution) -> Tensor | None:
        """Give the weights that solutions speak of, shape (d, p), or None where there are none."""
        given = self.options.weights
        if given is None:
            return solution.weights
        given = given.detach().to(torch.float64)
        given = given[:, None].expand_as(self.targets) if given.ndim == 1 else given
        return given if solution.weights is None else given * solution.weights

    def fit(self, solution: Solution) -> Tensor:
        """Compute A u + E v from coefficients, shape (d, p)."""
        fitted = self.design.detach().to(torch.float64) @ solution.coefficients
        if self.options.extra is None or solution.extra_coefficients is None:
            return fitted
        own = self.options.extra.detach().to(torch.float64)
        return fitted + (own * solution.extra_coefficients).sum(1)


def solve_weighted_rows(job: Job, run: Callable[[Job], Solution]) -> Solution:
    """Solve every target on its rows of positive weight, and complete the solutions on the others.

    Args:
        job: What is to be solved.
        run: Solves a job, all weights of which are positive.
    """
    weights, count = job.options.weights, job.targets.shape[1]
    if weights is None or bool((weights != 0).all()):
        return run(job)
    used = (weights != 0).reshape(len(weights), -1)
    patterns, which = torch.unique(used, dim=1, return_inverse=True)
    which = which.expand(count) if used.shape[1] == 1 else which
    groups = [(which == index).nonzero()[:, 0] for index in range(patterns.shape[1])]
    rank = _rank(job.design)
    parts = [
        _complete(job, rows, chosen, run(job.take(rows, chosen)), rank)
        for rows, chosen in zip(patterns.T, groups, strict=True)
    ]
    return _join(parts, torch.cat(groups).argsort(), rank)


def _complete(job: Job, rows: Tensor, chosen: Tensor, found: Solution, rank: int) -> Solution:
    """Bring solutions on some rows to all rows: z = 0 on the others, and unique only where these see no more.

    A fit that is unique on the rows of weight is so on all rows where these have the rank of all; with a ridge the
    coefficients are unique themselves.
    """
    every = torch.ones_like(rows)
    whole = job.take(every, chosen)
    fitted, targets = whole.fit(found), whole.targets.detach().to(torch.float64)
    level = targets.abs() + whole.design.detach().to(torch.float64).abs() @ found.coefficients.abs()
    level = whole.rounding.T * (level + 1e-9 * largest(fitted.T))
    residuals = targets - fitted
    residuals = residuals.masked_fill(residuals.abs() <= level, 0.0)
    fitted = torch.where(residuals == 0, targets, fitted)
    fitted[rows], residuals[rows] = found.fitted, found.residuals
    dual = torch.zeros_like(residuals)
    dual[rows] = found.dual
    unique = found.unique
    if not job.options.ridge:
        seen = _seen(whole, rows, unique) if found.extra_coefficients is not None else found.rank == rank
        unique = unique & seen
    weights = None
    if found.weights is not None:
        weights = torch.zeros_like(residuals)
        weights[rows] = found.weights
    return replace(
        found,
        fitted=fitted,
        residuals=residuals,
        dual=dual,
        unique=unique,
        certified=unique,
        zeros=(residuals == 0).sum(0),
        status=status_of(unique, [state != "inexact" for state in found.status]),
        weights=weights,
    )


def _seen(job: Job, rows: Tensor, asked: Tensor) -> Tensor:
    """Tell of the targets asked for whether the rows of all their columns have the rank of all rows, shape (p,)."""
    extra, seen = job.options.extra, asked.clone()
    if extra is None:
        return seen
    for place in asked.nonzero()[:, 0].tolist():
        joined = torch.cat([job.design, extra[:, :, place].to(job.design.dtype)], 1)
        seen[place] = _rank(joined[rows]) == _rank(joined)
    return seen


def _rank(design: Tensor) -> int:
    return orthonormal_basis(design.detach().to(torch.float64)).rank


def _join(parts: list[Solution], order: Tensor, rank: int) -> Solution:
    """Put solutions of groups of targets side by side, in the order given."""
    joined: dict[str, Any] = {}
    for entry in fields(Solution):
        values = [getattr(part, entry.name) for part in parts]
        if isinstance(values[0], Tensor):
            joined[entry.name] = torch.cat(values, -1)[..., order]
    states = [state for part in parts for state in part.status]
    return replace(parts[0], **joined, status=tuple(states[place] for place in order.tolist()), rank=rank)
