"""Safetensors files that appear whole or not at all, with equal bytes for equal contents."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from depurate.errors import InputError

# The size of the header stands before it, in so many bytes.
_SIZE_BYTES = 8


def store_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write beside the target, flush to disk, then rename over it; leave nothing behind on failure.

    Others may read the file as the umask says, and equal contents give equal bytes.

    Args:
        path: The file; one that exists is replaced.
        tensors: On the CPU, contiguous, no two of which share memory.
        metadata: Text to store beside them.

    Raises:
        InputError: It cannot be written.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     one, other = Path(folder, "one"), Path(folder, "other")
        ...     store_tensors(one, {"w": torch.ones(1)}, {"a": "1", "b": "2", "c": "3"})
        ...     store_tensors(other, {"w": torch.ones(1)}, {"c": "3", "b": "2", "a": "1"})
        ...     one.read_bytes() == other.read_bytes()
        True
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        # save_file makes its file private to the user; the umask says what others may do.
        partial.touch(0o666, exist_ok=False)
        granted = partial.stat().st_mode
        save_file(dict(tensors), partial, metadata=dict(metadata))
        partial.chmod(granted)
        with partial.open("rb+") as file:
            _sort_notes(file)
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_folder(path.parent)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _sort_notes(file: BinaryIO) -> None:
    """Put the metadata in order, in place: safetensors writes them in one of chance."""
    size = int.from_bytes(file.read(_SIZE_BYTES), "little")
    header = json.loads(file.read(size))
    if "__metadata__" not in header:
        return
    notes = dict(sorted(header.pop("__metadata__").items()))
    text = json.dumps({"__metadata__": notes, **header}, separators=(",", ":"), ensure_ascii=False).encode()
    # Blanks fill a header up, by the format; one that came out longer would have to move all tensors.
    if len(text) <= size:
        file.seek(_SIZE_BYTES)
        file.write(text.ljust(size))
        file.flush()


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system can (Windows cannot open folders)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
