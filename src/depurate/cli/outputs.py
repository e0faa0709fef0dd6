"""Output files: checked before any work is done, never over something by accident."""

from __future__ import annotations

import os
from pathlib import Path

from depurate.errors import InputError


def check_free(path: Path, *, force: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Check that a file can be written to without losing anything.

    Args:
        path: Where to.
        force: Whether an existing file may be replaced.
        inputs: Files that are read and must never be replaced.

    Raises:
        InputError: The folder is missing or cannot be written to, the file exists, or it is one of the inputs.
    """
    try:
        _check(path, force, inputs)
    except InputError:
        raise
    # RuntimeError: links in a circle; ValueError: a NUL in the name.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error


def _check(path: Path, force: bool, inputs: tuple[Path, ...]) -> None:
    if not path.resolve().parent.is_dir():
        raise InputError(f"{path}: its folder does not exist")
    if not os.access(path.resolve().parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: its folder cannot be written to")
    if not path.exists():
        return
    if not path.is_file():
        raise InputError(f"{path}: exists and is not a file")
    if any(other.exists() and path.samefile(other) for other in inputs):
        raise InputError(f"{path}: is one of the input files; choose another name")
    if not force:
        raise InputError(f"{path}: exists already; choose another name or give --force")
