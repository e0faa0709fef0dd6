"""Text files that appear whole or not at all; the report and the command write theirs this way."""

from __future__ import annotations

import secrets
from pathlib import Path

from depurate.errors import InputError


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
