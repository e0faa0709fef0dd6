"""Random streams that have nothing in common: inputs, initialisation and noise of one run are independent."""

from __future__ import annotations

import hashlib


def stream(seed: int, purpose: str) -> int:
    """A generator's seed for one purpose of one run.

    The same number given to two draws would make them depend on each other: a uniform number that says which entry is
    hit is also what a Gaussian entry of the initialisation is made of.

    Args:
        seed: Of the run.
        purpose: Such as `inputs`, `weights`, `noise`.

    Returns:
        32 bits, as many as the generator uses.

    >>> stream(0, "inputs") != stream(0, "noise") != stream(1, "noise")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:4], "big")
