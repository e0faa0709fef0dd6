"""Text files that appear whole or not at all, and folders for them; the report and the command make theirs so."""

from __future__ import annotations

import secrets
from pathlib import Path

from depurate.errors import InputError


def make_folder(path: Path) -> None:
    """Make a folder, and those that it lies in, where they are missing.

    Raises:
        InputError: It cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: the folder cannot be made ({error})") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it appears only when complete.

    Raises:
        InputError: It cannot be written.
    """
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="\n")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)
