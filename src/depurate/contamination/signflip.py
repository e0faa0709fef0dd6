"""Sign flips: the right magnitude with the wrong sign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from depurate.contamination.checks import check_share
from depurate.contamination.noise import Noise
from depurate.contamination.places import bernoulli


@dataclass(frozen=True)
class SignFlip(Noise):
    """−w in place of w.

    Attributes:
        rate: Share of entries, 0 to 1.

    >>> SignFlip(0.01).spec
    'signflip:rate=0.01'
    """

    kind: ClassVar[str] = "signflip"
    rate: float

    def __post_init__(self) -> None:
        check_share(self, "rate", self.rate)

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        after = values.clone().flatten()
        places = bernoulli(after.numel(), self.rate, generator)
        after[places] = -after[places]
        return after.view(values.shape)
