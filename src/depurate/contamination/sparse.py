"""Sparse additive noise: each entry is hit with the same probability, by a value from any law."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination.laws import Law
from depurate.errors import InputError


@dataclass(frozen=True, eq=False)
class Contaminated:
    """Values after contamination, and the truth about it.

    Attributes:
        values: clean + z, shape and dtype of the clean values.
        mask: The entries that were hit, same shape, bool. All others are the clean ones bit for bit.
        clean: The values before, the very tensor that was given.
    """

    values: Tensor
    mask: Tensor
    clean: Tensor


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
    mask = torch.rand(values.shape, generator=generator, dtype=torch.float64) < fraction
    noise = torch.zeros(values.shape, dtype=torch.float64)
    noise[mask] = law.draw(int(mask.sum()), generator)
    mask, noise = mask.to(values.device), noise.to(values)
    return Contaminated(torch.where(mask, values.detach() + noise, values.detach()), mask, values)
