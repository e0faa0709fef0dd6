"""Sparse additive noise: each entry is hit with the same probability, by a value from any law."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Generator, Tensor

from depurate.contamination.checks import check_choice, check_share
from depurate.contamination.contaminated import Contaminated
from depurate.contamination.laws import Gaussian, Law
from depurate.contamination.noise import Noise
from depurate.contamination.units import UNITS, unit_of
from depurate.errors import InputError

_PLACES = ("random", "largest")
_SIGNS = ("free", "same", "against")


@dataclass(frozen=True)
class Sparse(Noise):
    """w + z with z from (1 − ε) δ₀ + ε Q.

    Attributes:
        rate: ε, the share of entries hit, 0 to 1.
        law: Q.
        unit: What the law is measured in: `std` (the tensor's standard deviation) or `absolute`.
        sign: `free` as drawn; `same`: every value positive; `against`: every value pushes its entry towards zero and
            beyond, the sign that hides best among the weights.
        place: `random`, or `largest`: the entries of largest magnitude, those that matter most.

    >>> Sparse(0.3, Gaussian(10.0)).spec
    'sparse:rate=0.3,law=gaussian,scale=10'
    """

    kind: ClassVar[str] = "sparse"
    rate: float
    law: Law = field(default=Gaussian(1.0))
    unit: str = "std"
    sign: str = "free"
    place: str = "random"

    def __post_init__(self) -> None:
        check_share(self, "rate", self.rate)
        check_choice(self, "unit", self.unit, UNITS)
        check_choice(self, "sign", self.sign, _SIGNS)
        check_choice(self, "place", self.place, _PLACES)

    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        mask = (
            _largest(values, self.rate) if self.place == "largest" else _random(values, self.rate, generator)
        )
        noise = self.law.draw(int(mask.sum()), generator) * unit_of(values, self.unit)
        if self.sign != "free":
            noise = noise.abs()
        if self.sign == "against":
            noise = torch.where(values[mask] < 0, noise, -noise)
        return _added(values, mask, noise)


def contaminate(values: Tensor, fraction: float, law: Law, *, seed: int) -> Contaminated:
    """Add sparse noise: values + z with z_i drawn from (1 − ε) δ₀ + ε Q, independently.

    The seed decides the entries before it decides their values, so that two laws with one seed hit the same
    entries. Draws are made on the CPU: the noise does not depend on the device.

    Args:
        values: Any shape, floating point.
        fraction: ε, the probability that an entry is hit, 0 to 1.
        law: Q.
        seed: Decides the entries and the values.

    Returns:
        New values with the mask of entries hit.

    Raises:
        InputError: The values are not floating point, or the fraction is not within 0 and 1.

    >>> import torch
    >>> from depurate.contamination import Constant
    >>> found = contaminate(torch.zeros(1000), 0.1, Constant(5.0), seed=0)
    >>> bool(((found.values == 5) == found.mask).all()), 60 < int(found.mask.sum()) < 140
    (True, True)
    """
    if not values.is_floating_point():
        raise InputError(f"values: {values.dtype}; expected a floating point type")
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction: {fraction}; expected a number from 0 to 1")
    generator = torch.Generator().manual_seed(seed)
    mask = _random(values, fraction, generator)
    noise = law.draw(int(mask.sum()), generator)
    after = _added(values.detach(), mask.to(values.device), noise.to(values.device))
    return Contaminated(after, mask.to(values.device), values)


def _random(values: Tensor, rate: float, generator: Generator) -> Tensor:
    return torch.rand(values.shape, generator=generator, dtype=torch.float64) < rate


def _largest(values: Tensor, rate: float) -> Tensor:
    sizes = values.abs().flatten().double().nan_to_num(0.0)
    mask = torch.zeros(sizes.shape, dtype=torch.bool)
    mask[sizes.topk(round(rate * sizes.numel())).indices] = True
    return mask.view(values.shape)


def _added(values: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    after = values.clone()
    after[mask] = values[mask] + noise.to(values)
    return after
