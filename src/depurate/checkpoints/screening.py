"""Accepts plain dense tensors only, and counts the entries that are no numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from depurate.checkpoints.quoting import quote
from depurate.errors import InputError

# A file may hold a tensor under several names, but not claim far more numbers than it has bytes.
_MAX_REUSE = 8
_SLACK_BYTES = 1 << 20


def screen_state(entries: Mapping[Any, Any], *, source: str, file_bytes: int) -> dict[str, Tensor]:
    """Return the entries as plain tensors, or say which one is not.

    Args:
        entries: A state dict as read.
        source: Name of the file for errors.
        file_bytes: Size of the file; views that claim much more than it holds are refused.

    Returns:
        Detached tensors under their names, in the order of the file.

    Raises:
        InputError: If a name is not text or a value is not a dense tensor of real numbers.

    >>> screen_state({"w": torch.ones(2).to_sparse()}, source="a.pt", file_bytes=8)
    Traceback (most recent call last):
    depurate.errors.InputError: a.pt: w is a sparse tensor; save it dense with .to_dense()
    """
    state: dict[str, Tensor] = {}
    claimed = 0
    for key, value in entries.items():
        if not isinstance(key, str):
            raise InputError(f"{source}: holds a key that is a {type(key).__name__}, not text")
        if not isinstance(value, Tensor):
            raise InputError(f"{source}: {quote(key)} is a {type(value).__name__}, not a tensor")
        fault = _fault(value)
        if fault:
            raise InputError(f"{source}: {quote(key)} is {fault}")
        claimed += value.numel() * value.element_size()
        if claimed > _MAX_REUSE * file_bytes + _SLACK_BYTES:
            raise InputError(
                f"{source}: {quote(key)} of shape {tuple(value.shape)} claims more than the "
                f"{file_bytes} bytes of the file hold"
            )
        state[key] = value.detach().resolve_neg()
    return state


def _fault(value: Tensor) -> str | None:
    """Say what keeps this tensor from being used, or None."""
    # nn.Parameter is as plain as Tensor; every other subclass may override what arithmetic means.
    if type(value) not in (Tensor, torch.nn.Parameter):
        return f"a {type(value).__name__}, not a plain tensor"
    if value.is_quantized:
        return f"quantised ({value.dtype}); save it dequantised with .dequantize()"
    if value.is_nested:
        return "a nested tensor; save its parts as tensors of their own"
    if value.layout is not torch.strided:
        kind = "sparse" if "sparse" in str(value.layout) else str(value.layout)
        return f"a {kind} tensor; save it dense with .to_dense()"
    if value.device.type != "cpu":
        return f"on the device {value.device}, without values"
    if value.is_complex():
        return f"complex ({value.dtype}), which is not supported"
    if "x2" in str(value.dtype) or str(value.dtype).startswith(("torch.bits", "torch.q")):
        return f"of the packed dtype {value.dtype}, which is not supported; save it dequantised"
    return None


def nonfinite_entries(state: Mapping[str, Tensor]) -> dict[str, int]:
    """Count the NaN and Inf entries of every floating tensor; bit flips in exponents show up here.

    Args:
        state: Named tensors of any shape and dtype.

    Returns:
        One count for each key of floating dtype, zeros included.

    >>> nonfinite_entries({"w": torch.tensor([1.0, float("nan")]), "steps": torch.tensor(3)})
    {'w': 1}
    """
    counts = {}
    for key, value in state.items():
        if value.is_floating_point():
            # isfinite does not know the 8-bit dtypes.
            wide = value.float() if value.element_size() == 1 else value
            counts[key] = int((~torch.isfinite(wide)).sum())
    return counts
