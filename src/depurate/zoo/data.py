"""The zoo's datasets, read from disk: pixels in [0, 1] with their classes."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from depurate.checkpoints import read_labelled
from depurate.errors import InputError


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test images of one dataset.

    Attributes:
        name: `mnist` or `cifar10`.
        images: Training images, pixels in [0, 1], shape (n, c, h, w).
        labels: Their classes, shape (n,).
        test_images: As `images`.
        test_labels: As `labels`.
        source: Where they were read from, in words; it tells JPEG-coded pixels from the original ones.
    """

    name: str
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    source: str

    def first(self, count: int | None) -> Data:
        """Keep the first so many training images; None keeps all."""
        return Data(
            self.name,
            self.images[:count],
            self.labels[:count],
            self.test_images,
            self.test_labels,
            self.source,
        )


def read_data(name: str, folder: str | os.PathLike[str]) -> Data:
    """Read a dataset of the zoo.

    Training images come in the dataset's own order, or shuffled (seed 0) where that is sorted by class.

    Args:
        name: `mnist` or `cifar10`.
        folder: Where torchvision stores it; for `cifar10` also a folder that holds `cifar10/train.zip` and
            `cifar10/test.zip`, one subfolder of pictures a class.

    Returns:
        The images, decoded.

    Raises:
        InputError: There is no such dataset, or it is not there.
    """
    place = Path(folder)
    if name == "mnist":
        return Data(name, *_arrays("MNIST", place, True), *_arrays("MNIST", place, False), "MNIST")
    if name != "cifar10":
        raise InputError(f"dataset {name!r}: the zoo has mnist and cifar10")
    archives = [place / "cifar10" / f"{split}.zip" for split in ("train", "test")]
    if all(archive.exists() for archive in archives):
        parts = [_shuffled(*read_labelled(archive)) for archive in archives]
        coding = "JPEG" if _jpeg(archives[0]) else "pictures"
        return Data(name, *parts[0], *parts[1], f"CIFAR-10 ({coding}), shuffled with seed 0")
    parts = [_arrays("CIFAR10", place, train) for train in (True, False)]
    return Data(name, *parts[0], *parts[1], "CIFAR-10 (original pixels)")


def _arrays(name: str, place: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Take a torchvision dataset as the arrays it keeps; picture by picture it would take a minute."""
    try:
        found = getattr(torchvision.datasets, name)(str(place), train=train)
    except (RuntimeError, OSError) as error:
        raise InputError(f"{place}: no {name} of torchvision there ({error})") from error
    pixels, labels = torch.as_tensor(found.data), torch.as_tensor(found.targets)
    pixels = pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2)
    return pixels.float().div(255).contiguous(), labels.long()


def _jpeg(archive: Path) -> bool:
    with zipfile.ZipFile(archive) as opened:
        return any(Path(name).suffix.lower() in (".jpg", ".jpeg") for name in opened.namelist())


def _shuffled(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]
