"""Dense noise: a draw from a law on every entry."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_choice
from depurate.contamination.laws import Gaussian, Law
from depurate.contamination.noise import Noise
from depurate.contamination.units import UNITS, unit_of


@dataclass(frozen=True)
class Dense(Noise):
    """w + z with z from Q for every entry.

    Attributes:
        law: Q.
        unit: `std` or `absolute`.

    >>> Dense(Gaussian(0.1)).spec
    'dense:law=gaussian,scale=0.1'
    """

    kind: ClassVar[str] = "dense"
    law: Law = field(default=Gaussian(1.0))
    unit: str = "std"

    def __post_init__(self) -> None:
        check_choice(self, "unit", self.unit, UNITS)

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        noise = self.law.draw(values.numel(), generator).view(values.shape)
        return (values.double() + noise.to(torch.float64) * unit_of(values, self.unit)).to(values.dtype)
