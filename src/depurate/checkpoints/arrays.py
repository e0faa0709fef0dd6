"""Arrays of images in .npy, .npz and .safetensors files, never unpickled."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from depurate.checkpoints.quoting import quote, quote_few
from depurate.errors import InputError

_Choose = Callable[[int], Sequence[int]]
_KEYS = ("images", "x", "data")
_CHANNELS = (1, 3, 4)
_MAX_BYTES = 1 << 33
_NUMPY_ERRORS = (
    ValueError,
    OSError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


def read_array(path: Path, choose: _Choose) -> tuple[Tensor, int]:
    """Read some images of an array as they are stored.

    Args:
        path: A `.npy`, `.npz` or `.safetensors` file; of several arrays the one called
            images, x or data is taken.
        choose: Turns the number of images into the positions of those wanted.

    Returns:
        The chosen images with the array's own trailing shape and dtype, and how many there are in all.

    Raises:
        InputError: If the file is damaged, needs unpickling, is absurdly large, or the array cannot be told.
    """
    read = {".npy": _read_npy, ".npz": _read_npz, ".safetensors": _read_safetensors}[path.suffix.lower()]
    try:
        return read(path, choose)
    except InputError:
        raise
    except (SafetensorError, *_NUMPY_ERRORS) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read as an array of images ({quote(reason)})") from error


def channels_first(images: Tensor, channels: int | None, *, source: str) -> Tensor:
    """Images as (n, c, h, w), whichever way they were stored.

    Args:
        images: Shape (n, c, h, w), (n, h, w, c) or (n, h, w).
        channels: The number of channels wanted, which settles unusual shapes.
        source: Name for errors.

    Returns:
        A view of shape (n, c, h, w).

    Raises:
        InputError: If the layout cannot be told.

    >>> channels_first(torch.zeros(5, 32, 32, 3), None, source="a.npy").shape
    torch.Size([5, 3, 32, 32])
    """
    shape = tuple(images.shape)
    if 0 in shape:
        raise InputError(f"{source}: an array of shape {shape} holds no images")
    if len(shape) == 3 and shape[2] not in _CHANNELS[1:]:
        return images[:, None]
    if len(shape) != 4:
        raise InputError(
            f"{source}: an array of shape {shape}; wanted (n, c, h, w), (n, h, w, c) or (n, h, w)"
        )
    usual = (channels, *_CHANNELS)
    first, last = shape[1] in usual, shape[3] in usual
    if first and last:
        # Either could be the channels: images are square more often than not.
        first = shape[2] == shape[3] or shape[1] != shape[2]
    if first:
        return images
    if last:
        return images.permute(0, 3, 1, 2)
    wanted = (
        f"1, 3, 4 nor {channels} channels" if channels else "1, 3 nor 4 channels; say how many (channels)"
    )
    raise InputError(f"{source}: an array of shape {shape} has neither {wanted}")


def _read_npy(path: Path, choose: _Choose) -> tuple[Tensor, int]:
    # Mapped, so that a few images of a large file cost no more than those.
    return _take(np.load(path, mmap_mode="r", allow_pickle=False), choose, path)


def _read_npz(path: Path, choose: _Choose) -> tuple[Tensor, int]:
    with zipfile.ZipFile(path) as archive:
        sizes = {m.filename.removesuffix(".npy"): m.file_size for m in archive.infolist()}
    key = _pick(list(sizes), path)
    if sizes[key] > _MAX_BYTES:
        raise InputError(f"{path}: {quote(key)} unpacks to {sizes[key]} bytes; refused")
    with np.load(path, allow_pickle=False) as arrays:
        return _take(arrays[key], choose, path)


def _read_safetensors(path: Path, choose: _Choose) -> tuple[Tensor, int]:
    with safe_open(path, framework="pt", device="cpu") as file:
        images = file.get_tensor(_pick(list(file.keys()), path))
        if images.ndim == 0:
            raise InputError(f"{path}: holds a single number, not images")
        # Indexing copies: the file may change while its mapped pages are in use.
        return images[torch.as_tensor(choose(len(images)), dtype=torch.int64)], len(images)


def _pick(keys: Sequence[str], path: Path) -> str:
    found = next((key for key in _KEYS if key in keys), None)
    if found is None and len(keys) != 1:
        listed = f"holds {quote_few(keys)}" if keys else "holds no array"
        raise InputError(f"{path}: {listed}; name the images one of {', '.join(_KEYS)}")
    return found or keys[0]


def _take(array: np.ndarray[Any, Any], choose: _Choose, path: Path) -> tuple[Tensor, int]:
    """Take the chosen entries along the first axis, in native byte order and memory of their own."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: is not what its name ends in; it holds no array of images")
    if array.dtype != np.uint8 and (array.dtype.kind != "f" or array.dtype.itemsize > 8):
        raise InputError(f"{path}: pixels are {array.dtype}; save them as uint8 (0 to 255) or as floats")
    if array.ndim == 0:
        raise InputError(f"{path}: holds a single number, not images")
    taken = array[np.asarray(choose(len(array)), dtype=np.int64)]
    return torch.from_numpy(taken.astype(taken.dtype.newbyteorder("="))), len(array)
