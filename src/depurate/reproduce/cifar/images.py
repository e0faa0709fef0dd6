"""As many images of CIFAR-10 as a run needs; decoding all of them would take longer than a quick run may."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from depurate.checkpoints import read_labelled
from depurate.reproduce.cifar.networks import digest
from depurate.zoo import Data, read_data


def source_of(folder: Path) -> str:
    """Name the files that images come from, so that a run on others is not taken for one on these.

    Args:
        folder: As for `read_cifar`.

    Returns:
        The first digits of the SHA-256 of both archives, or `original` where torchvision is to read: it takes no other
        files than the original ones.

    Raises:
        InputError: An archive cannot be read.
    """
    archives = _archives(folder)
    return " ".join(digest(archive) for archive in archives) if archives else "original"


def read_cifar(folder: Path, training: int | None, testing: int) -> Data:
    """Read training and test images, each a seeded random sample where pictures lie in class folders.

    Args:
        folder: Holds `cifar10/train.zip` and `cifar10/test.zip`, or torchvision's CIFAR10.
        training: Images to train on; None for all, 0 for none.
        testing: Test images.

    Raises:
        InputError: They are not there.
    """
    archives = _archives(folder)
    if not archives:
        whole = read_data("cifar10", folder)
        tests = whole.test_images[:testing], whole.test_labels[:testing]
        return Data(whole.name, whole.images[:training], whole.labels[:training], *tests, whole.source)
    test = _sample(archives[1], testing)
    train = (test[0][:0], test[1][:0]) if training == 0 else _sample(archives[0], training)
    return Data("cifar10", *train, *test, "CIFAR-10 (pictures in class folders)")


def _archives(folder: Path) -> tuple[Path, ...]:
    """Pictures to train and to test on in class folders, or nothing where not both are there."""
    archives = tuple(folder / "cifar10" / f"{split}.zip" for split in ("train", "test"))
    return archives if all(archive.exists() for archive in archives) else ()


def _sample(archive: Path, count: int | None) -> tuple[Tensor, Tensor]:
    images, labels = read_labelled(archive, limit=count)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]
