"""Places that are hit at random: independent draws, at a cost that goes with the hits."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bernoulli(count: int, rate: float, generator: torch.Generator) -> Tensor:
    """Draw which of `count` places are hit, each independently with probability `rate`; indices, ascending.

    By geometric gaps where hits are rare, g = ⌊ln u / ln(1 − rate)⌋ places between one hit and the next, so that time
    and memory go with the hits.

    >>> bernoulli(5, 1.0, torch.Generator()).tolist(), bernoulli(5, 0.0, torch.Generator()).tolist()
    ([0, 1, 2, 3, 4], [])
    """
    if rate <= 0 or count == 0:
        return torch.empty(0, dtype=torch.int64)
    if rate > 0.05:
        return (torch.rand(count, generator=generator, dtype=torch.float64) < rate).nonzero()[:, 0]
    block = int(count * rate * 1.1) + 64
    places, last = [], -1.0
    while last < count:
        uniform = 1 - torch.rand(block, generator=generator, dtype=torch.float64)
        gaps = (uniform.log() / math.log1p(-rate)).floor() + 1
        places.append(last + gaps.cumsum(0))
        last = places[-1][-1].item()
    found = torch.cat(places)
    return found[found < count].long()
