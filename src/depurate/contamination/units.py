"""The unit that noise is measured in: the tensor's own standard deviation, or plain numbers."""

from __future__ import annotations

from torch import Tensor

UNITS = ("std", "absolute")


def unit_of(values: Tensor, unit: str) -> float:
    """Return how large 1 is: the standard deviation of a tensor's finite values, or 1 where the unit is absolute.

    Where all values are equal it is their magnitude, and 1 where they are zero.

    >>> import torch
    >>> unit_of(torch.tensor([1.0, 3.0]), "std"), unit_of(torch.tensor([3.0]), "std"), unit_of(torch.zeros(2), "std")
    (1.0, 3.0, 1.0)
    """
    if unit == "absolute":
        return 1.0
    finite = values[values.isfinite()].double()
    if finite.numel() == 0:
        return 1.0
    spread = finite.std(correction=0).item()
    return spread or finite.abs().mean().item() or 1.0
