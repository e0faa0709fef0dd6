"""Pictures one at a time from a folder, a zip file or a dataset: named first, decoded only when asked."""

from __future__ import annotations

import io
import lzma
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from depurate.checkpoints.quoting import quote
from depurate.errors import InputError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")
_MAX_FILE_BYTES = 1 << 28
# PIL knows others, some of which start programs to decode them.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF")


@dataclass(frozen=True)
class Pictures:
    """Pictures that can be decoded one by one.

    Attributes:
        source: Where they come from, in words.
        names: One name a picture.
        decode: Turns an index into float32 pixels (c, h, w) in [0, 1] with c of 1 or 3; raises `Unreadable`.
        label: Turns an index into a class number; None where the source has no classes.
        linked: Links to folders, which are not followed.
    """

    source: str
    names: Sequence[str]
    decode: Callable[[int], Tensor]
    label: Callable[[int], int] | None
    linked: Sequence[str] = ()


class Unreadable(Exception):  # noqa: N818  (it is a finding on one picture, not an error of the run)
    """One picture cannot be decoded; the message says why."""


def open_folder(folder: Path) -> Pictures:
    """List the pictures in a folder and its subfolders, sorted; leave out hidden files and linked folders.

    Args:
        folder: The folder. Where pictures lie in subfolders, the first level of those names the class.

    Returns:
        The pictures, none of them decoded yet.

    Raises:
        InputError: If there are none.
    """
    found, linked = [], list[str]()

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links = (str(Path(parent, name)) for name in folders if Path(parent, name).is_symlink())
        linked += links
        found += [Path(parent, name).relative_to(folder).as_posix() for name in files if _is_picture(name)]
    names = sorted(found)
    if not names:
        left = f"; links to folders, such as {quote(linked[0])}, are not followed" if linked else ""
        raise InputError(f"{folder}: holds no images ({', '.join(s[1:] for s in _SUFFIXES)}){left}")

    def decode(index: int) -> Tensor:
        path = folder / names[index]
        try:
            if not path.is_file():
                raise Unreadable("not a regular file")
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise Unreadable("larger than 256 MiB")
            data = path.read_bytes()
        except OSError as error:
            raise Unreadable(str(error.strerror)) from error
        return decode_picture(data, name=str(path))

    return Pictures(str(folder), names, decode, _labels(names), tuple(linked))


def open_zip(path: Path) -> Pictures:
    """List the pictures in a zip file, sorted; nothing is unpacked to disk.

    Args:
        path: The zip file.

    Returns:
        The pictures, none of them decoded yet.

    Raises:
        InputError: If it is not a zip file, holds no pictures, or an entry is absurdly large.
    """
    try:
        # Stays open while the pictures are in use: reading its table of contents takes long.
        archive = zipfile.ZipFile(path)
        sizes = {m.filename: m.file_size for m in archive.infolist() if _is_picture(m.filename)}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise InputError(f"{path}: is not a usable zip file ({quote(str(error))})") from error
    names = sorted(name for name in sizes if "__MACOSX" not in PurePosixPath(name).parts)
    if not names:
        raise InputError(f"{path}: holds no images ({', '.join(s[1:] for s in _SUFFIXES)})")
    for name in names:
        if sizes[name] > _MAX_FILE_BYTES:
            raise InputError(
                f"{path}: {quote(name)} unpacks to {sizes[name]} bytes; refused as a decompression bomb"
            )

    def decode(index: int) -> Tensor:
        try:
            data = archive.read(names[index])
        # RuntimeError: encrypted; zlib and the others: damaged.
        except (
            zipfile.BadZipFile,
            RuntimeError,
            OSError,
            EOFError,
            ValueError,
            zlib.error,
            lzma.LZMAError,
        ) as error:
            raise Unreadable(quote(str(error))) from error
        return decode_picture(data, name=f"{path}: {quote(names[index])}")

    return Pictures(str(path), names, decode, _labels(names))


def decode_picture(data: bytes, *, name: str) -> Tensor:
    """Decode one image file.

    Args:
        data: Its bytes.
        name: Its name for errors.

    Returns:
        float32 pixels in [0, 1]; (1, h, w) for grey pictures, (3, h, w) for all others.

    Raises:
        Unreadable: If it cannot be decoded.
        InputError: If PIL takes it for a decompression bomb.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
                picture.load()
                return picture_pixels(picture)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name}: refused as a decompression bomb ({error})") from error
    except Unreadable:
        raise
    except UnidentifiedImageError as error:
        raise Unreadable(f"not one of {', '.join(_FORMATS)}") from error
    # Decoders of damaged files raise whatever their format makes them stumble on; only PIL is called here.
    except Exception as error:
        raise Unreadable(quote(f"{type(error).__name__}: {error}".splitlines()[0])) from error


def picture_pixels(picture: Image.Image) -> Tensor:
    """Turn an opened picture into float32 in [0, 1], with 1 or 3 channels.

    >>> picture_pixels(Image.new("L", (4, 2), 255)).shape
    torch.Size([1, 2, 4])
    """
    if picture.mode.startswith("I;16"):
        deep = np.asarray(picture).astype(np.float32) / 65535
        return torch.from_numpy(deep)[None]
    if picture.mode in ("I", "F"):
        raise Unreadable(f"pixels of mode {picture.mode} have no fixed range; give them as .npy")
    if picture.mode in ("1", "L", "LA", "La"):
        return torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32) / 255)[None]
    # Palettes may hide transparency, which PIL only drops in two steps.
    flat = picture.convert("RGBA") if picture.mode in ("P", "PA") else picture
    pixels = np.array(flat.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _is_picture(name: str) -> bool:
    pure = PurePosixPath(name)
    return pure.suffix.lower() in _SUFFIXES and not pure.name.startswith(".")


def _labels(names: Sequence[str]) -> Callable[[int], int] | None:
    """Class numbers by the sorted names of the folders under what all names have in common."""
    parts = [PurePosixPath(name).parts for name in names]
    depth = 0
    while all(len(p) > depth + 1 for p in parts) and len({p[depth] for p in parts}) == 1:
        depth += 1
    if any(len(p) <= depth + 1 for p in parts):
        return None
    classes = {name: number for number, name in enumerate(sorted({p[depth] for p in parts}))}
    return lambda index: classes[parts[index][depth]]
