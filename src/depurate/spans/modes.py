"""Modes that torch keeps for a thread, where a pass that stops inside a network's own contexts would leave them on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True)
class Modes:
    """Whether gradients are recorded, and in which dtype products are computed.

    Attributes:
        gradients: Whether they are recorded.
        automatic: For each device, whether products take the next dtype.
        dtypes: For each device.
    """

    gradients: bool
    automatic: tuple[bool, ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def now(cls) -> Modes:
        """Those of this moment."""
        return cls(
            torch.is_grad_enabled(),
            tuple(torch.is_autocast_enabled(device) for device in _DEVICES),
            tuple(torch.get_autocast_dtype(device) for device in _DEVICES),
        )

    def set(self) -> None:
        """Make them those of this thread."""
        torch.set_grad_enabled(self.gradients)
        for device, automatic, dtype in zip(_DEVICES, self.automatic, self.dtypes, strict=True):
            torch.set_autocast_enabled(device, automatic)
            torch.set_autocast_dtype(device, dtype)


@contextmanager
def kept_modes() -> Iterator[None]:
    """Have modes at the end that there were at the beginning, whatever was switched in between."""
    modes = Modes.now()
    try:
        yield
    finally:
        modes.set()


@contextmanager
def plain_modes() -> Iterator[None]:
    """Gradients recorded, no automatic dtypes, no inference mode: whatever the caller has switched on.

    >>> with torch.no_grad(), torch.autocast("cpu"), plain_modes():
    ...     torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
    (True, False)
    """
    with torch.inference_mode(False), kept_modes():
        Modes(True, (False,) * len(_DEVICES), Modes.now().dtypes).set()
        yield
