"""Bursts: whole kernels, places across kernels and stretches of memory in which every entry is hit."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# A kernel or place that is larger than the others by this many of their deviations, of their logarithms, is no larger
# than that by nature: of healthy networks few are, and none by much.
_DEVIATIONS, _LEAST_DEVIATION = 4.0, 0.15
_FEWEST = 8
_RUN = 64
# Runs and places of a layer together look hit by chance less often than once in e³ layers.
_SURE = 3.0
# Of their entries, those that are hit have to be found for themselves: a large kernel is none.
_MOSTLY = 0.5


def capped(factors: Tensor, deviations: float = _DEVIATIONS) -> Tensor:
    """Limit scales of kernels or places to what the others of their layer make likely.

    log f ≤ med log f + k max(MAD, 0.15): a kernel hit as a whole would otherwise pass for a large one.

    Args:
        factors: Any shape; fewer than eight are returned as they are.
        deviations: k.

    Returns:
        The same shape.

    >>> capped(torch.tensor([1.0, 1.1, 0.9, 1.0, 1.2, 1.0, 0.8, 10.0])).max().item() < 2
    True

    Source: the median absolute deviation, Huber 1981.
    """
    if factors.numel() < _FEWEST:
        return factors
    logs = factors.clamp_min(1e-30).log()
    middle = logs.median()
    spread = ((logs - middle).abs().median() / 0.6745).clamp_min(_LEAST_DEVIATION)
    return factors.clamp_max(float((middle + deviations * spread).exp()))


def burst_entries(probability: Tensor, share: float) -> Tensor:
    """Mark runs along kernels, and places across them, that are likelier hit altogether than each entry by chance.

    log p(r | all hit) − log p(r | each hit by chance) = Σ log(pᵢ / ε), over runs of up to 64 entries and over all
    kernels' entries at one place: kernels, pages of memory and input channels are made of these. Most entries have to
    be likely hit by themselves.

    Args:
        probability: pᵢ of being hit by chance, given the entry's residual, shape (kernels, fan_in).
        share: ε, that chance.

    Returns:
        Boolean mask of the same shape.

    >>> probability = torch.full((20, 30), 0.02)
    >>> probability[4], probability[7, :10] = 0.8, 0.9
    >>> burst_entries(probability, 0.1).nonzero()[:, 0].unique().tolist()
    [4]

    Source: the likelihood ratio of Neyman & Pearson 1933.
    """
    kernels, fan_in = probability.shape
    likely = probability.double()
    evidence = likely.clamp_min(1e-12).log() - math.log(max(share, 1e-9))
    pieces = -(-fan_in // _RUN)
    piece = torch.arange(fan_in, device=probability.device) * pieces // fan_in
    limit = _SURE + math.log(kernels * pieces + fan_in)

    def of_runs(values: Tensor) -> Tensor:
        return values.new_zeros(kernels, pieces).index_add_(1, piece, values)

    hit = (of_runs(evidence) > limit) & (of_runs(likely) > _MOSTLY * of_runs(torch.ones_like(likely)))
    marked = hit[:, piece]
    if kernels >= _FEWEST:
        marked = marked | ((evidence.sum(0) > limit) & (likely.mean(0) > _MOSTLY))
    return marked
