"""Benign images from wherever the user keeps them, as one tensor."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from depurate.checkpoints.arrays import channels_first, read_array
from depurate.checkpoints.datasets import open_dataset
from depurate.checkpoints.normalisation import Normalisation, parse_normalize
from depurate.checkpoints.pictures import Pictures, Unreadable, open_folder, open_zip
from depurate.checkpoints.quoting import quote
from depurate.checkpoints.shaping import to_channels, to_float, to_size
from depurate.errors import InputError

_ARRAYS = (".npy", ".npz", ".safetensors")
_MAX_BYTES = 1 << 33


@dataclass(frozen=True)
class Images:
    """Benign images, ready for a network.

    Attributes:
        tensor: Shape (n, c, h, w), float32.
        source: Where they come from and how many were taken, in words.
        skipped: Files that could not be decoded, each with the reason.
        linked: Links to folders, whose pictures were left out.
    """

    tensor: Tensor
    source: str
    skipped: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Request:
    """What the caller wants done to the images, checked."""

    limit: int | None
    size: tuple[int, int] | None
    channels: int | None
    normalize: Normalisation | None
    seed: int
    mixed: bool = False


def read_images(
    spec: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    normalize: str | None = None,
    seed: int = 0,
) -> Images:
    """Read images from a folder, a zip file, an array file or a torchvision dataset; never look at labels.

    Args:
        spec: A folder (with subfolders) or `.zip` of pictures; an `.npy`, `.npz` or `.safetensors` array of
            shape (n, c, h, w), (n, h, w, c) or (n, h, w); or `torchvision:NAME[:SPLIT]`, by default the test
            split.
        data_root: Where torchvision's datasets lie.
        limit: Take at most so many, chosen and ordered by `seed`; None, or as many as there are, takes all in sorted
            order.
        size: Height and width in pixels, or one number for both; images are cut about the centre and resized.
        channels: 1 or 3, where the images are to be converted.
        normalize: `MEAN,STD` or `M1,M2,M3/S1,S2,S3`, applied to pixels in [0, 1] (to floats as stored).
        seed: Chooses the subset.

    Returns:
        The images as float32. No more than `limit` are ever decoded.

    Raises:
        InputError: If there are none, none is readable, they differ in size, or hold NaN or Inf.

    >>> import numpy as np, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/digits.npy", np.zeros((9, 28, 28), np.uint8))
    ...     read_images(f"{folder}/digits.npy", limit=4).tensor.shape
    torch.Size([4, 1, 28, 28])
    """
    request = _check_request(limit, size, channels, normalize, seed)
    if is_array(spec):
        return _from_array(Path(spec), request)
    pictures = _open_pictures(spec, data_root)
    images, taken, skipped = _decode_all(pictures, request)
    told = _told(pictures.source, len(taken), len(pictures.names), request)
    return Images(images, told, skipped, tuple(pictures.linked))


def read_labelled(
    spec: str | os.PathLike[str],
    *,
    data_root: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    normalize: str | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Read images with their classes, for scripts that measure accuracy; recovery never sees classes.

    Args:
        spec: A folder or `.zip` with one subfolder a class, or `torchvision:NAME[:SPLIT]`.
        data_root: As in `read_images`, and so are all others.
        limit: See there, but as many as there are come in the order of `seed`, too: their classes are mixed.
        size: See there.
        channels: See there.
        normalize: See there.
        seed: See there.

    Returns:
        Images (n, c, h, w) as float32, and their classes (n,) as int64: the position of the folder's name
        among the sorted ones, or the dataset's own number. Unreadable pictures are left out of both.

    Raises:
        InputError: As in `read_images`, or if the source has no classes.
    """
    request = replace(_check_request(limit, size, channels, normalize, seed), mixed=True)
    if is_array(spec):
        raise InputError(f"{spec}: array files hold no classes; give a folder with one subfolder a class")
    pictures = _open_pictures(spec, data_root)
    if pictures.label is None:
        raise InputError(f"{spec}: has no classes; give a folder with one subfolder a class")
    images, taken, _ = _decode_all(pictures, request)
    return images, torch.tensor([pictures.label(index) for index in taken], dtype=torch.int64)


def _check_request(
    limit: int | None,
    size: int | tuple[int, int] | None,
    channels: int | None,
    normalize: str | None,
    seed: int,
) -> _Request:
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    if channels is not None and channels < 1:
        raise InputError(f"channels must be at least 1, got {channels}")
    sides = (size, size) if isinstance(size, int) else size
    if sides is not None and min(sides) < 1:
        raise InputError(f"size must be at least 1, got {size}")
    return _Request(limit, sides, channels, None if normalize is None else parse_normalize(normalize), seed)


def is_array(spec: str | os.PathLike[str]) -> bool:
    """Tell whether the images lie in an array file; refuse what is not there at all."""
    if not str(spec):  # which would be the folder one is in
        raise InputError("images: the name given is empty; give a folder, a zip or an array file")
    if str(spec).startswith("torchvision:"):
        return False
    path = Path(spec)
    try:
        there = path.is_dir() or path.is_file()
    except OSError as error:
        raise InputError(f"{quote(str(spec))}: cannot be read ({error.strerror})") from error
    if not there:
        raise InputError(f"{quote(str(spec))}: no such folder or file")
    return path.suffix.lower() in _ARRAYS and path.is_file()


def _open_pictures(spec: str | os.PathLike[str], data_root: str | os.PathLike[str] | None) -> Pictures:
    if str(spec).startswith("torchvision:"):
        return open_dataset(str(spec), None if data_root is None else Path(data_root))
    path = Path(spec)
    if path.is_dir():
        return open_folder(path)
    if zipfile.is_zipfile(path):
        return open_zip(path)
    raise InputError(f"{spec}: not a folder or zip of images, nor an array file ({', '.join(_ARRAYS)})")


def _from_array(path: Path, request: _Request) -> Images:
    source = str(path)
    stored, total = read_array(path, lambda count: _choose(count, request))
    _check_memory(stored.numel(), source)
    if request.size is not None:
        _check_memory(len(stored) * max(request.channels or 1, 1) * prod(request.size), source)
    images = to_float(channels_first(stored, request.channels, source=source), source=source)
    images = _finish(
        to_size(to_channels(images, request.channels, source=source), request.size), request, source
    )
    return Images(images, _told(source, len(images), total, request))


def _choose(total: int, request: _Request) -> list[int]:
    """Take the first `limit` of a seeded shuffle, or all in order where that leaves none out."""
    if request.limit is None:
        return list(range(total))
    if request.limit >= total and not request.mixed:
        return list(range(total))
    generator = torch.Generator().manual_seed(request.seed)
    return torch.randperm(total, generator=generator)[: request.limit].tolist()


def _decode_all(pictures: Pictures, request: _Request) -> tuple[Tensor, list[int], tuple[str, ...]]:
    """Decode the chosen pictures into one tensor; say which ones they are and which could not be decoded."""
    chosen = _choose(len(pictures.names), request)
    decoded: dict[int, Tensor] = {}
    skipped: list[str] = []
    for index in chosen:
        name = quote(pictures.names[index])
        try:
            picture = pictures.decode(index)[None]
        except Unreadable as reason:
            skipped.append(f"{name}: {reason}")
            continue
        picture = to_channels(picture, request.channels, source=name)
        pixels = prod(request.size or picture.shape[2:])
        _check_memory(len(chosen) * picture.shape[1] * pixels, pictures.source)
        picture = to_size(picture, request.size)
        decoded[index] = picture
    if not decoded:
        raise InputError(f"{pictures.source}: none of {len(chosen)} images can be read, such as {skipped[0]}")
    # Grey pictures among coloured ones are common in collections of photographs.
    widest = max(picture.shape[1] for picture in decoded.values())
    images = [to_channels(picture, widest, source=pictures.source) for picture in decoded.values()]
    _check_same_size(pictures, list(decoded), images)
    return _finish(torch.cat(images), request, pictures.source), list(decoded), tuple(skipped)


def _check_same_size(pictures: Pictures, taken: Sequence[int], images: Sequence[Tensor]) -> None:
    for index, image in zip(taken, images, strict=True):
        if image.shape != images[0].shape:
            one, other = (f"{i.shape[2]}x{i.shape[3]}" for i in (images[0], image))
            raise InputError(
                f"{pictures.source}: images differ in size ({quote(pictures.names[taken[0]])} is {one}, "
                f"{quote(pictures.names[index])} is {other}); give the size that the network takes"
            )


def _finish(images: Tensor, request: _Request, source: str) -> Tensor:
    """Refuse NaN and Inf, then normalise."""
    bad = (~images.isfinite()).flatten(1).any(1)
    if bad.any():
        raise InputError(f"{source}: {int(bad.sum())} of {len(images)} images hold NaN or Inf")
    return (images if request.normalize is None else request.normalize.apply(images)).contiguous()


def _check_memory(numbers: int, source: str) -> None:
    if 4 * numbers > _MAX_BYTES:
        raise InputError(
            f"{source}: the images would take {4 * numbers / 2**30:.0f} GiB; "
            "take fewer (limit) or smaller (size)"
        )


def _told(source: str, taken: int, total: int, request: _Request) -> str:
    chosen = (
        f", chosen with seed {request.seed}" if request.limit is not None and request.limit < total else ""
    )
    return f"{source}: {taken} of {total} images{chosen}"
