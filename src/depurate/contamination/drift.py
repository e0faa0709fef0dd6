"""Drift: every weight loses or gains a share of itself, as analogue memory does over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_finite
from depurate.contamination.noise import Noise
from depurate.errors import InputError


@dataclass(frozen=True)
class Drift(Noise):
    """w · (g + s·n) with n ~ N(0, 1) for every entry.

    Attributes:
        gain: g; 1 is no drift on average.
        spread: s, not negative.

    >>> Drift(gain=0.5).apply(torch.tensor([2.0]), seed=0).values.tolist()
    [1.0]
    """

    kind: ClassVar[str] = "drift"
    gain: float = 0.9
    spread: float = 0.0

    def __post_init__(self) -> None:
        check_finite(self, "gain", self.gain)
        check_finite(self, "spread", self.spread)
        if self.spread < 0:
            raise InputError(f"{self!r}: spread must not be negative")

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        factor = self.gain + self.spread * torch.randn(values.shape, generator=generator, dtype=torch.float64)
        return (values.double() * factor).to(values.dtype)
