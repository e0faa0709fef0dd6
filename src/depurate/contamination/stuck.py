"""Stuck cells: memory that always reads the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_choice, check_share
from depurate.contamination.noise import Noise
from depurate.contamination.places import bernoulli

_LEVELS = ("zero", "max", "min")


@dataclass(frozen=True)
class Stuck(Noise):
    """Entries that read zero, or the largest or smallest value of their tensor.

    Attributes:
        rate: Share of entries, 0 to 1.
        at: `zero`, `max` or `min`.

    >>> Stuck(0.01, at="max").spec
    'stuck:rate=0.01,at=max'
    """

    kind: ClassVar[str] = "stuck"
    rate: float
    at: str = "zero"

    def __post_init__(self) -> None:
        check_share(self, "rate", self.rate)
        check_choice(self, "at", self.at, _LEVELS)

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        after = values.clone().flatten()
        finite = values[values.isfinite()]
        level = 0.0
        if self.at != "zero" and finite.numel():
            level = (finite.max() if self.at == "max" else finite.min()).item()
        after[bernoulli(after.numel(), self.rate, generator)] = torch.tensor(level, dtype=values.dtype)
        return after.view(values.shape)
