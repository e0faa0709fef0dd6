"""Targets that very uneven weights left inexact, once more with their rows multiplied by the weights.

Σ w_i ρ(y_i − a_iᵀu) = Σ ρ(w_i y_i − w_i a_iᵀu) for losses of degree one. All targets share a basis that knows nothing
of the weights, and where these differ by many powers of ten the rows that settle a fit may be all but invisible in it.
A basis of the target's own rows as weighted does not have that trouble, at the price of a factorisation a target.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor

from depurate.solver._setup import least_weighted
from depurate.solver._solution import Solution, Status
from depurate.solver._weightless import Job

# Beside rows of large weight those of small weight must not pass for rounding errors.
_ROUNDING = 1e-13


def solve_rescaled(job: Job, found: Solution, run: Callable[[Job], Solution]) -> Solution:
    """Solve the inexact targets of weighted problems again by themselves, and keep what is better.

    Args:
        job: What was solved, all weights positive.
        found: The solutions.
        run: Solves a job without weights.
    """
    missed = [place for place, status in enumerate(found.status) if status is Status.INEXACT]
    weights = job.weights_of(found)
    if weights is None or job.options.huber or not missed:
        return found
    tensors = {entry.name: getattr(found, entry.name) for entry in fields(found)}
    tensors = {name: value.clone() for name, value in tensors.items() if isinstance(value, Tensor)}
    status, every = list(found.status), torch.ones_like(weights[:, 0], dtype=torch.bool)
    for place in missed:
        chosen = torch.tensor([place], device=weights.device)
        again = _solve_one(job.take(every, chosen), weights[:, chosen], run)
        if not float(again.gap[0]) < float(found.gap[place]):
            continue
        for name, value in tensors.items():
            if name not in ("weights", "iterations"):
                value[..., place] = getattr(again, name)[..., 0]
        tensors["iterations"][place] += again.iterations[0]
        status[place] = again.status[0]
    return replace(found, **tensors, status=tuple(status))


def _solve_one(job: Job, weights: Tensor, run: Callable[[Job], Solution]) -> Solution:
    """Solve one target with its rows multiplied by the weights, shape (d, 1), and translate the solution back."""
    weight, unit = least_weighted(weights.T)
    weight = weight.T
    extra, targets = job.options.extra, job.targets.detach().to(torch.float64)
    ridge = float(job.options.ridge / unit)
    found = run(
        Job(
            job.design.detach().to(torch.float64) * weight,
            targets * weight,
            replace(
                job.options,
                weights=None,
                ridge=ridge,
                extra=None if extra is None else extra.detach().to(torch.float64) * weight[:, :, None],
            ),
            job.rounding.clamp_max(_ROUNDING),
            None,
        )
    )
    exact = found.residuals == 0
    fitted = torch.where(exact, targets, job.fit(found))
    return replace(
        found,
        fitted=fitted,
        residuals=(targets - fitted).masked_fill(exact, 0.0),
        dual=found.dual * weight * unit,
        objective=found.objective * unit[:, 0],
    )
