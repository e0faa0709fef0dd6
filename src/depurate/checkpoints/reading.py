"""Reads a checkpoint that nobody vouches for: nothing in it is ever executed."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.torch_version import TorchVersion

from depurate.checkpoints.checkpoint import Checkpoint
from depurate.checkpoints.prefixes import common_prefix
from depurate.checkpoints.provenance import file_sha256
from depurate.checkpoints.quoting import quote
from depurate.checkpoints.screening import screen_state
from depurate.checkpoints.sniffing import sniff_format
from depurate.checkpoints.unwrapping import unwrap
from depurate.errors import InputError

# weights_only=True could be made to run code before 2.6 (CVE-2025-32434) and to corrupt memory before 2.10
# (CVE-2026-24747).
_SAFE_TORCH = "2.10"


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a safetensors or torch checkpoint without executing anything in it.

    Torch files go through `torch.load(weights_only=True)` only. Wrappers such as `{"state_dict": ...}` are
    unwrapped; the prefixes of DataParallel and torch.compile are noted, not removed.

    Args:
        path: The file. Its content decides the format, not its suffix.

    Returns:
        The tensors on the CPU under the file's own keys and dtypes, with what is needed to write them back.

    Raises:
        InputError: If the file is missing, truncated, hostile, holds code, or anything but dense tensors.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"epoch": 3, "state_dict": {"module.w": torch.ones(2)}}, f"{folder}/suspect.pt")
    ...     suspect = read_checkpoint(f"{folder}/suspect.pt")
    >>> suspect.format, suspect.wrapper, suspect.prefix, list(suspect.state)
    ('torch', ('state_dict',), 'module.', ['module.w'])
    """
    path = Path(path)
    kind = sniff_format(path)
    metadata: dict[str, str] = {}
    if kind == "safetensors":
        content, metadata = _read_safetensors(path)
    else:
        content = _read_torch(path)
    entries, wrapper, beside = unwrap(content, source=str(path))
    state = screen_state(entries, source=str(path), file_bytes=path.stat().st_size)
    digest = file_sha256(path)
    return Checkpoint(path, state, kind, wrapper, common_prefix(state), metadata, digest, beside)


def _read_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    key = "its header"
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors: dict[str, Tensor] = {}
            for key in file.keys():  # noqa: SIM118  (safe_open is no mapping)
                # A copy: the file may change or vanish while its mapped pages are in use.
                tensors[key] = file.get_tensor(key).clone()
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise InputError(
            f"{path}: not a usable safetensors file, {quote(key)} is at fault ({_line(error)})"
        ) from error
    return tensors, metadata


def _read_torch(path: Path) -> object:
    if TorchVersion(torch.__version__) < _SAFE_TORCH:
        raise InputError(
            f"{path}: torch {torch.__version__} cannot read this format safely (CVE-2025-32434, "
            "CVE-2026-24747); update to torch 2.10 or later, or give a safetensors file"
        )
    try:
        # Its remarks on odd contents are not the caller's business: what it accepts is screened afterwards.
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("ignore")
            # An open file: given a name, torch goes by its suffix.
            return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    # The restricted unpickler interprets hostile bytes: which exception ends it is for the file to choose.
    # Only that one call stands in this block.
    except Exception as error:
        raise InputError(f"{path}: {_refusal(error)}") from error


def _refusal(error: Exception) -> str:
    """Say what to tell about a file that `torch.load(weights_only=True)` refused."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found or "weights_only" in str(error):
        what = quote(found.group(1).rstrip(".,")) if found else "instructions that state dicts do not have"
        return (
            f"holds code or Python objects besides tensors ({what}); it was not executed. "
            "Where you trust it, load it yourself and save a state_dict: "
            'torch.save(model.state_dict(), "weights.pt")'
        )
    return f"is truncated or corrupt ({_line(error)})"


def _line(error: Exception) -> str:
    """Return the first line of an error, kept short."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return quote(lines[0])
