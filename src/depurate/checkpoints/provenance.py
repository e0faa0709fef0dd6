"""Says in a few words of metadata where a purified checkpoint came from."""

from __future__ import annotations

import hashlib
import os
from importlib.metadata import version
from pathlib import Path

from depurate.checkpoints.checkpoint import Checkpoint
from depurate.errors import InputError


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Compute the SHA-256 digest of a file, in hexadecimal.

    Args:
        path: Any regular file.

    Returns:
        64 hexadecimal digits.

    Raises:
        InputError: If the file cannot be read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     file_sha256(file.name)[:16]
    'e3b0c44298fc1c14'
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def provenance(source: Checkpoint) -> dict[str, str]:
    """Metadata that ties a written checkpoint to the one it was made from.

    Args:
        source: The suspect as read.

    Returns:
        Name and digest of its file, and the version of depurate.
    """
    return {
        "depurate_version": version("depurate"),
        "depurate_source": source.path.name,
        "depurate_source_sha256": source.sha256 or file_sha256(source.path),
    }
