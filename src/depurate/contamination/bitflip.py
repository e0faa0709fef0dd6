"""Bit flips in memory, in the format that the weights lie in or one they are deployed in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_choice, check_share
from depurate.contamination.noise import Noise, bit_pattern
from depurate.contamination.places import bernoulli
from depurate.errors import InputError

_FORMATS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
_MEMORIES = ("own", *_FORMATS, "int8")
_BITS = ("all", "exponent", "mantissa", "sign")


@dataclass(frozen=True)
class BitFlip(Noise):
    """Every bit flips on its own with the same probability.

    In a format other than the tensor's own, an entry that is hit is rounded to that format, flipped there and read
    back; all others stay bit for bit. int8 has one scale a tensor, max|w| / 127.

    Attributes:
        rate: Probability for each of the bits meant, 0 to 1.
        bits: `all`, `exponent`, `mantissa` or `sign`; int8 has no exponent.
        memory: `own`, `float64`, `float32`, `float16`, `bfloat16` or `int8`.

    >>> clean = torch.tensor([1.0, 0.5])
    >>> BitFlip(1.0, bits="sign").apply(clean, seed=0).values.tolist()
    [-1.0, -0.5]
    """

    kind: ClassVar[str] = "bitflip"
    rate: float
    bits: str = "all"
    memory: str = "own"

    def __post_init__(self) -> None:
        check_share(self, "rate", self.rate)
        check_choice(self, "bits", self.bits, _BITS)
        check_choice(self, "memory", self.memory, _MEMORIES)
        if self.memory == "int8" and self.bits == "exponent":
            raise InputError(f"{self!r}: int8 has no exponent bits")

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        flat = values.flatten()
        places = _places(self.bits, self.memory, values.dtype)
        hits = bernoulli(flat.numel() * len(places), self.rate, generator)
        entries, which = hits // len(places), hits % len(places)
        # Distinct bits of one entry: their sum is their union.
        powers = torch.ones_like(which) << torch.tensor(places)[which]
        hit, position = torch.unique(entries, return_inverse=True)
        pattern = torch.zeros_like(hit).index_add_(0, position, powers)
        after = flat.clone()
        after[hit] = self._flipped(flat, hit, pattern).to(values.dtype)
        return after.view(values.shape)

    def _flipped(self, flat: Tensor, hit: Tensor, pattern: Tensor) -> Tensor:
        if self.memory == "int8":
            step = flat[flat.isfinite()].abs().max().item() / 127 if flat.isfinite().any() else 1.0
            codes = (
                (flat[hit].double().nan_to_num(0.0) / (step or 1.0)).round().clamp(-127, 127).to(torch.int8)
            )
            return (codes ^ _narrow(pattern, torch.int8)).double() * step
        stored = flat[hit].to(_FORMATS.get(self.memory, flat.dtype))
        words = bit_pattern(stored)
        return (words ^ _narrow(pattern, words.dtype)).view(stored.dtype)


def _places(bits: str, memory: str, own: torch.dtype) -> list[int]:
    """Positions of the bits meant, the lowest being 0."""
    if memory == "int8":
        return {"all": [*range(8)], "mantissa": [*range(7)], "sign": [7]}[bits]
    about = torch.finfo(_FORMATS.get(memory, own))
    sign = about.bits - 1
    mantissa = round(-torch.tensor(about.eps, dtype=torch.float64).log2().item())
    spans = {
        "all": range(sign + 1),
        "mantissa": range(mantissa),
        "exponent": range(mantissa, sign),
        "sign": [sign],
    }
    return [*spans[bits]]


def _narrow(pattern: Tensor, dtype: torch.dtype) -> Tensor:
    """The low bits of int64 words, as words of a narrower type."""
    return pattern.view(dtype).view(len(pattern), -1)[:, 0] if len(pattern) else pattern.to(dtype)
