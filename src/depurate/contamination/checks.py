"""Settings of noise, checked where they are made."""

from __future__ import annotations

import math

from depurate.errors import InputError


def check_share(owner: object, name: str, value: float) -> None:
    """Refuse what is no number from 0 to 1.

    Raises:
        InputError: It is not.
    """
    if not 0 <= value <= 1:
        raise InputError(f"{_told(owner)}: {name} must be a number from 0 to 1")


def check_finite(owner: object, name: str, value: float) -> None:
    """Refuse NaN and Inf.

    Raises:
        InputError: It is one of them.
    """
    if not math.isfinite(value):
        raise InputError(f"{_told(owner)}: {name} must be finite")


def check_choice(owner: object, name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a word that is not among those allowed.

    Raises:
        InputError: It is not.
    """
    if value not in allowed:
        raise InputError(f"{_told(owner)}: {name} must be one of {', '.join(allowed)}")


def _told(owner: object) -> str:
    """A noise as its user wrote it, anything else as Python does."""
    spec = getattr(owner, "spec", None)
    return spec if isinstance(spec, str) else repr(owner)
