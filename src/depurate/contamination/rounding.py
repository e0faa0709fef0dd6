"""Rounding to a few bits, as quantisation does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from depurate.contamination.noise import Noise
from depurate.errors import InputError


@dataclass(frozen=True)
class Rounding(Noise):
    """The nearest of 2ᵇ − 1 evenly spaced values, symmetric about zero, the outermost ±max|w|.

    Attributes:
        bits: b, from 2 to 16.

    >>> import torch
    >>> Rounding(bits=2).apply(torch.tensor([1.0, 0.7, 0.2]), seed=0).values.tolist()
    [1.0, 1.0, 0.0]
    """

    kind: ClassVar[str] = "rounding"
    bits: int = 8

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 16:
            raise InputError(f"{self!r}: bits must be from 2 to 16")

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        finite = values.isfinite()
        if not finite.any() or not values[finite].any():
            return values.clone()
        step = values[finite].double().abs().max() / (2 ** (self.bits - 1) - 1)
        after = values.clone()
        after[finite] = ((values[finite].double() / step).round() * step).to(values.dtype)
        return after
