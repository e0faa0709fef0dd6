"""Imports torchvision only when it is needed, and turns a broken installation into one clear error."""

from __future__ import annotations

import importlib
from typing import Any

from depurate.errors import InputError


def import_torchvision(part: str) -> Any:
    """Import `torchvision.PART`.

    Args:
        part: `models` or `datasets`.

    Returns:
        The module.

    Raises:
        InputError: If torchvision is missing, or was built for another torch.
    """
    try:
        return importlib.import_module(f"torchvision.{part}")
    # A build for another torch fails while it registers its operators, in several ways.
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"torchvision cannot be imported ({reason}); install the release that matches your torch, "
            "or give the network as FILE.py:factory"
        ) from error
