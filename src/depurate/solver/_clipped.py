"""Targets with a few huge entries, solved with these cut off: beyond a fit only the side counts, not how far.

What solves min Σ ρ(e) solves it, too, where an entry with a residual e > 0 goes up, or one with e < 0 down: its slope,
and with it the dual, stays the same. As it was, an entry of 1e20 would let residuals of size one pass for rounding
errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from depurate.solver._masks import largest
from depurate.solver._solution import Solution
from depurate.solver._weightless import Job

# Entries beyond so many times the lower quartile of the others are cut off there.
_FAR = 2.0**24
_LOW = 0.25


def solve_clipped(job: Job, run: Callable[[Job], Solution]) -> Solution:
    """Solve targets without what their huge entries add to rounding, and put these back.

    Args:
        job: What is to be solved, all weights positive.
        run: Solves a job.
    """
    limit = _limits(job.targets)
    if limit is None:
        return run(job)
    clipped = replace(job, targets=torch.minimum(torch.maximum(job.targets, -limit), limit))
    found = run(clipped)
    cut = job.targets != clipped.targets
    # Past where a smoothed loss turns, the slope is that of any entry further out.
    beyond = found.residuals * job.targets.sign() > 2 * job.options.huber
    missed = (cut & ~beyond).any(0)
    whole = _put_back(job, clipped, found, cut)
    if not bool(missed.any()):
        return whole
    every, chosen = torch.ones_like(cut[:, 0]), missed.nonzero()[:, 0]
    return whole.with_some(chosen, run(job.take(every, chosen)))


def _limits(targets: Tensor) -> Tensor | None:
    """How large entries of each target may be, shape (p,), infinite where none is huge; None where none is anywhere."""
    sizes, peak = targets.detach().abs(), largest(targets.detach().T)
    small = sizes < peak / _FAR
    far = (small.sum(0) > _LOW * len(sizes)).nonzero()[:, 0]
    if not far.numel():
        return None
    limits = torch.full_like(peak, torch.inf)
    # The others that are not zero; these tell of no size. `quantile` takes no more than 2^24 numbers.
    others = (small & (sizes != 0))[:, far]
    ordered = sizes[:, far].double().masked_fill(~others, torch.inf).sort(dim=0).values
    place = (_LOW * (others.sum(0, keepdim=True) - 1)).long().clamp_min(0)
    limits[far] = (_FAR * ordered.gather(0, place)[0]).to(limits)
    return limits if bool(limits.isfinite().any()) else None


def _put_back(job: Job, clipped: Job, found: Solution, cut: Tensor) -> Solution:
    targets = job.targets.detach().to(torch.float64)
    off = (targets - clipped.targets.detach().to(torch.float64)).masked_fill(~cut, 0.0)
    residuals = torch.where(cut, targets - found.fitted, found.residuals)
    quantile = job.options.quantile
    more = torch.maximum(2 * quantile * off, (2 * quantile - 2) * off)
    weights = job.weights_of(found)
    more = (more if weights is None else weights * more).sum(0)
    objective = found.objective + more
    return replace(
        found,
        residuals=residuals,
        objective=objective,
        gap=torch.where(more > 0, found.gap * (found.objective / objective), found.gap),
        zeros=(residuals == 0).sum(0),
    )
