"""Datasets that torchvision can read from disk; nothing is downloaded."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from depurate.checkpoints.pictures import Pictures, Unreadable, picture_pixels
from depurate.checkpoints.quoting import quote
from depurate.checkpoints.torchvision_import import import_torchvision
from depurate.errors import InputError


def open_dataset(spec: str, data_root: Path | None) -> Pictures:
    """Open one of torchvision's datasets of classified pictures.

    Args:
        spec: `torchvision:NAME` for the test split, or `torchvision:NAME:SPLIT`.
        data_root: The folder that torchvision stores it under.

    Returns:
        Its pictures and classes, none decoded yet.

    Raises:
        InputError: If there is no such dataset or split, or it is not on disk.
    """
    name, _, split = spec.removeprefix("torchvision:").partition(":")
    if data_root is None:
        raise InputError(f"{spec}: say under which folder the dataset lies (data_root)")
    datasets = import_torchvision("datasets")
    kind = getattr(datasets, name, None) if name in datasets.__all__ else None
    options = None if kind is None else _split_options(kind, split or "test")
    if kind is None or options is None:
        raise InputError(
            f"{quote(spec)}: not a torchvision dataset with {split or 'test'} split, such as MNIST or CIFAR10"
        )
    if "download" in inspect.signature(kind).parameters:
        options["download"] = False
    try:
        dataset = kind(str(data_root), **options)
    except (RuntimeError, OSError) as error:
        raise InputError(
            f"{spec}: not found under {data_root}; get it with: python -c "
            f"\"import torchvision; torchvision.datasets.{name}('{data_root}', download=True)\""
        ) from error
    # What torchvision stumbles on in damaged files.
    except (ValueError, TypeError, ImportError, AssertionError, LookupError, EOFError) as error:
        raise InputError(
            f"{spec}: cannot be opened ({quote(f'{type(error).__name__}: {error}'.splitlines()[0])})"
        ) from error
    names = [str(index) for index in range(len(dataset))]
    return Pictures(
        f"{spec} under {data_root}",
        names,
        lambda index: _pixels(dataset, index),
        lambda index: int(dataset[index][1]),
    )


def _split_options(kind: Any, split: str) -> dict[str, Any] | None:
    """How this dataset is told which split to open, or None where it cannot be."""
    parameters = inspect.signature(kind).parameters
    if "train" in parameters:
        return {"train": split == "train"} if split in ("train", "test") else None
    return {"split": split} if "split" in parameters else None


def _pixels(dataset: Any, index: int) -> Tensor:
    picture = dataset[index][0]
    if not isinstance(picture, Image.Image):
        raise Unreadable(f"a {type(picture).__name__}, not a picture")
    return picture_pixels(picture)
