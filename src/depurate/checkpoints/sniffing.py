"""Tells by content what kind of checkpoint a file is, and refuses what holds code or no tensors."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from depurate.errors import InputError

# What legacy torch.save writes first: the pickled number 0x1950a86a20f9469cfc6c.
_TORCH_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_HEAD_BYTES = 512
# torch stores its archives uncompressed; anything that grows much on reading is a decompression bomb.
_MAX_EXPANSION = 4
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    NotImplementedError,
    RuntimeError,
)
_SAVE_HINT = 'torch.save(model.state_dict(), "weights.pt")'
# First bytes of files that people mistake for checkpoints, and what to tell them.
_OTHER_FORMATS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the checkpoint; fetch it with: git lfs pull",
    b"\x89HDF": "is HDF5 (Keras), which is not supported; convert the weights to safetensors",
    b"GGUF": "is GGUF, which is not supported; convert the weights to safetensors",
    b"\x1f\x8b": "is gzip-compressed; unpack it first",
}


def sniff_format(path: Path) -> str:
    """Say whether a file is a `safetensors` or a `torch` checkpoint by looking at its bytes alone.

    Args:
        path: The file; its suffix plays no part.

    Returns:
        `safetensors` or `torch`.

    Raises:
        InputError: If it is missing, empty, not a regular file, holds code, or is neither of the two.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"w": torch.zeros(1)}, Path(folder) / "named_wrongly.safetensors")
    ...     sniff_format(Path(folder) / "named_wrongly.safetensors")
    'torch'
    """
    head = _read_head(path)
    if head[8:9] == b"{":
        return "safetensors"
    for magic, advice in _OTHER_FORMATS.items():
        if head.startswith(magic):
            raise InputError(f"{path}: {advice}")
    if head.startswith(b"PK\x03\x04"):
        _check_archive(path)
        return "torch"
    if head.startswith(b"\x80") and _TORCH_MAGIC in head[:64]:
        return "torch"
    if head.startswith(b"\x80"):
        raise InputError(
            f"{path}: is a Python pickle, which can hold code; it was not executed. "
            f"Where you trust it, load it yourself and save a state_dict: {_SAVE_HINT}"
        )
    if path.name.endswith(".index.json"):
        raise InputError(
            f"{path}: lists the parts of a checkpoint in several files; join these into one safetensors file first"
        )
    if _is_text(head):
        raise InputError(f"{path}: is a text file, not a checkpoint")
    if path.suffix.lower() == ".onnx":
        raise InputError(f"{path}: is ONNX, not supported yet; save a state_dict: {_SAVE_HINT}")
    raise InputError(f"{path}: is neither a safetensors nor a torch checkpoint")


def _read_head(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder, not a checkpoint file")
        if not path.exists():
            raise InputError(f"{path}: no such file")
        if not path.is_file():
            raise InputError(f"{path}: is not a regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except InputError:
        raise
    # ValueError: a NUL in the name.
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if not head:
        raise InputError(f"{path}: is empty")
    return head


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(char.isprintable() or char.isspace() for char in text)


def _check_archive(path: Path) -> None:
    """Refuse zip archives that are not plain torch.save files, by their table of contents."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except _ZIP_ERRORS as error:
        raise InputError(
            f"{path}: is truncated or corrupt (zip archive without a table of contents)"
        ) from error
    names = [member.filename for member in members]
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise InputError(
            f"{path}: is TorchScript, which holds code; it was not executed. "
            f"Where you trust it, load it yourself and save a state_dict: {_SAVE_HINT}"
        )
    if any(
        name.endswith(("/archive_format", "models/model.json", "serialized_exported_program.json"))
        for name in names
    ):
        raise InputError(
            f"{path}: is a torch.export program, not supported yet; save a state_dict: {_SAVE_HINT}"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise InputError(f"{path}: is a zip archive, but not one that torch.save wrote")
    unpacked, packed = sum(member.file_size for member in members), path.stat().st_size
    if unpacked > _MAX_EXPANSION * packed:
        raise InputError(f"{path}: {packed} bytes that unpack to {unpacked}; refused as a decompression bomb")
