"""The images of the bench: 2,000 to measure on, which no defence sees, and 2,500 for the defences."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from depurate.checkpoints import read_labelled
from depurate.errors import InputError

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


def read_split(name: str, data: Path, *, seed: int) -> Split:
    """Read and divide the test set of a dataset.

    Args:
        name: Of `DATASETS`.
        data: Folder that holds torchvision's datasets, or the archive.
        seed: Of the shuffle.

    Returns:
        The two parts, which share no image.

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
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    first, last = order[:MEASURED], order[-BENIGN:]
    return Split(images[first], labels[first], images[last], labels[last])


def save_split(split: Split, path: Path) -> None:
    """Write a split, so that every process of the bench reads the same images in no time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in vars(split).items()}, partial)
    partial.replace(path)


def load_split(path: Path) -> Split:
    """Read what `save_split` wrote."""
    return Split(**load_file(path))
