"""Bursts: whole kernels, whole input channels, or contiguous pages of memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_choice, check_share
from depurate.contamination.laws import Gaussian, Law
from depurate.contamination.noise import Noise
from depurate.contamination.places import bernoulli
from depurate.contamination.units import UNITS, unit_of
from depurate.errors import InputError

_BLOCKS = ("kernels", "channels", "pages")
_MODES = ("add", "replace")


@dataclass(frozen=True)
class Burst(Noise):
    """Blocks in which every entry is hit.

    Attributes:
        rate: Share of blocks, 0 to 1.
        over: `kernels` (slices along the first axis), `channels` (along the second; entries of a vector) or `pages`.
        law: What hit entries receive.
        unit: `std` or `absolute`.
        mode: `add` to the entry or `replace` it.
        page: Bytes in a page of memory.

    >>> hit = Burst(0.5, over="kernels").apply(torch.zeros(8, 3), seed=1).mask
    >>> bool((hit.all(1) == hit.any(1)).all())
    True
    """

    kind: ClassVar[str] = "burst"
    rate: float
    over: str = "kernels"
    law: Law = field(default=Gaussian(1.0))
    unit: str = "std"
    mode: str = "add"
    page: int = 4096

    def __post_init__(self) -> None:
        check_share(self, "rate", self.rate)
        check_choice(self, "over", self.over, _BLOCKS)
        check_choice(self, "unit", self.unit, UNITS)
        check_choice(self, "mode", self.mode, _MODES)
        if self.page < 8:
            raise InputError(f"{self!r}: a page has at least 8 bytes")

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        blocks = self._blocks(values)
        hit = bernoulli(int(blocks.max()) + 1 if blocks.numel() else 0, self.rate, generator)
        mask = torch.isin(blocks, hit)
        drawn = self.law.draw(int(mask.sum()), generator) * unit_of(values, self.unit)
        after = values.clone()
        after[mask] = drawn.to(values) + (values[mask] if self.mode == "add" else 0)
        return after

    def _blocks(self, values: Tensor) -> Tensor:
        """The number of the block that each entry lies in."""
        if self.over == "pages":
            at = torch.arange(values.numel()).view(values.shape)
            return at // (self.page // values.element_size())
        axis = min(1 if self.over == "channels" else 0, max(values.ndim - 1, 0))
        if values.ndim == 0:
            return torch.zeros((), dtype=torch.int64)
        along = torch.arange(values.shape[axis]).view([-1 if i == axis else 1 for i in range(values.ndim)])
        return along.expand(values.shape)
