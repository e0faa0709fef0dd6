"""The images of the bench: 2,000 to measure on, which no defence sees, and 2,500 for the defences."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from depurate.checkpoints import read_labelled
from depurate.errors import InputError
from depurate.text_files import make_folder
from depurate.zoo import tensors_digest

MEASURED, BENIGN = 2000, 2500


@dataclass(frozen=True)
class Dataset:
    """How a dataset is read and what training may do to its images.

    Attributes:
        spec: Where torchvision has it.
        archive: A .zip of class folders inside the data folder, taken instead where it exists.
        shift: Pixels by which training moves its images.
        mirrored: Whether training mirrors them.
    """

    spec: str
    archive: str | None = None
    shift: int = 0
    mirrored: bool = False


DATASETS = {
    "mnist": Dataset("torchvision:MNIST"),
    "cifar10": Dataset("torchvision:CIFAR10", "cifar10/test.zip", shift=4, mirrored=True),
}


@dataclass(frozen=True, eq=False)
class Split:
    """The test set of a dataset after a seeded shuffle; pixels in [0, 1].

    Attributes:
        measured: Its first 2,000 images.
        measured_labels: Their classes.
        benign: Its last 2,500 images; a defence that gets n of them gets the first n.
        benign_labels: Their classes.
    """

    measured: Tensor
    measured_labels: Tensor
    benign: Tensor
    benign_labels: Tensor


def dataset_named(name: str) -> Dataset:
    """Look a dataset up.

    Raises:
        InputError: There is none of that name.
    """
    if name not in DATASETS:
        raise InputError(f"{name}: no such dataset in the bench; there are {', '.join(DATASETS)}")
    return DATASETS[name]


@dataclass(frozen=True, eq=False)
class Pixels:
    """The test set of a dataset as it was read; pixels in [0, 1].

    Attributes:
        images: Shape (n, c, h, w).
        labels: Their classes, shape (n,).
    """

    images: Tensor
    labels: Tensor

    @property
    def digest(self) -> str:
        """SHA-256 of images and classes: a JPEG copy of a dataset has another one than its original pixels."""
        return tensors_digest({"images": self.images, "labels": self.labels})

    def split(self, seed: int) -> Split:
        """Shuffle and divide; the two parts share no image."""
        order = torch.randperm(len(self.images), generator=torch.Generator().manual_seed(seed))
        first, last = order[:MEASURED], order[-BENIGN:]
        return Split(self.images[first], self.labels[first], self.images[last], self.labels[last])


def read_pixels(name: str, data: Path) -> Pixels:
    """Read the test set of a dataset.

    Args:
        name: Of `DATASETS`.
        data: Folder that holds torchvision's datasets, or the archive.

    Returns:
        All its images, in their own order.

    Raises:
        InputError: The data are not there, or too few.
    """
    dataset = dataset_named(name)
    archive = None if dataset.archive is None else data / dataset.archive
    if archive is not None and archive.exists():
        images, labels = read_labelled(archive)
    else:
        images, labels = read_labelled(dataset.spec, data_root=data)
    if len(images) < MEASURED + BENIGN:
        raise InputError(f"{data}: {len(images)} images of {name}; the bench needs {MEASURED + BENIGN}")
    return Pixels(images, labels)


def save_split(split: Split, path: Path) -> None:
    """Write a split, so that every process of the bench reads the same images in no time.

    Raises:
        InputError: It cannot be written.
    """
    make_folder(path.parent)
    # A name of chance: two benches that start at once must not write the same file.
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        save_file({name: value.contiguous() for name, value in vars(split).items()}, partial)
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: could not be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def load_split(path: Path) -> Split:
    """Read what `save_split` wrote.

    Raises:
        InputError: It is not there, or something else.
    """
    try:
        return Split(**load_file(path))
    except (OSError, SafetensorError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as images of the bench ({error})") from error


def load_benign(path: Path, count: int) -> tuple[Tensor, Tensor]:
    """Read the first images for the defences, and nothing else, of what `save_split` wrote.

    Args:
        path: The file.
        count: How many.

    Returns:
        Pixels in [0, 1] and their classes.

    Raises:
        InputError: It is not there, or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            return file.get_slice("benign")[:count], file.get_slice("benign_labels")[:count]
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: cannot be read as images of the bench ({error})") from error
