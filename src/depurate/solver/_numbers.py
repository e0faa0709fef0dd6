"""Arguments that should be one real number, in whatever type they come."""

from __future__ import annotations

from numbers import Real

import numpy as np
from torch import Tensor

from depurate.errors import InputError


def real_number(value: object, name: str) -> float:
    """Bring a number, a numpy scalar or a tensor without dimensions to a float.

    Args:
        value: What the caller gave.
        name: The argument, for the message.

    Raises:
        InputError: It is no real number.

    >>> real_number(np.float32(0.5), "quantile")
    0.5
    """
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex():
        return float(value.detach())
    if isinstance(value, Real) or (
        isinstance(value, np.ndarray | np.generic) and value.ndim == 0 and value.dtype.kind in "biuf"
    ):
        try:
            return float(value)
        except OverflowError:
            raise InputError(f"{name}: a number past what float64 holds") from None
    shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor | np.ndarray) else repr(value)
    raise InputError(f"{name}: {shown}; expected one real number")
