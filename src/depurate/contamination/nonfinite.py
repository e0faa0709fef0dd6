"""NaN and Inf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_choice, check_share
from depurate.contamination.noise import Noise
from depurate.contamination.places import bernoulli

_VALUES = ("nan", "inf", "-inf", "mixed")


@dataclass(frozen=True)
class NonFinite(Noise):
    """Entries that are no numbers any more.

    Attributes:
        rate: Share of entries, 0 to 1.
        value: `nan`, `inf`, `-inf`, or `mixed`: each of the three alike often.

    >>> NonFinite(1.0, value="inf").apply(torch.zeros(2), seed=0).values.tolist()
    [inf, inf]
    """

    kind: ClassVar[str] = "nonfinite"
    rate: float
    value: str = "nan"

    def __post_init__(self) -> None:
        check_share(self, "rate", self.rate)
        check_choice(self, "value", self.value, _VALUES)

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        after = values.clone().flatten()
        places = bernoulli(after.numel(), self.rate, generator)
        kinds = _VALUES[:3] if self.value == "mixed" else (self.value,)
        which = torch.randint(len(kinds), places.shape, generator=generator)
        after[places] = torch.tensor([float(kind) for kind in kinds], dtype=values.dtype)[which]
        return after.view(values.shape)
