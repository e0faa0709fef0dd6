"""As many images of CIFAR-10 as a run needs; decoding all of them would take longer than a quick run may."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from depurate.checkpoints import read_labelled
from depurate.zoo import Data, read_data


def read_cifar(folder: Path, training: int | None, testing: int) -> Data:
    """Read training and test images, each a seeded random sample where pictures lie in class folders.

    Args:
        folder: Holds `cifar10/train.zip` and `cifar10/test.zip`, or torchvision's CIFAR10.
        training: Images to train on; None for all, 0 for none.
        testing: Test images.

    Raises:
        InputError: They are not there.
    """
    archives = [folder / "cifar10" / f"{split}.zip" for split in ("train", "test")]
    if not all(archive.exists() for archive in archives):
        whole = read_data("cifar10", folder)
        tests = whole.test_images[:testing], whole.test_labels[:testing]
        return Data(whole.name, whole.images[:training], whole.labels[:training], *tests, whole.source)
    test = _sample(archives[1], testing)
    train = (test[0][:0], test[1][:0]) if training == 0 else _sample(archives[0], training)
    return Data("cifar10", *train, *test, "CIFAR-10 (pictures in class folders)")


def _sample(archive: Path, count: int | None) -> tuple[Tensor, Tensor]:
    images, labels = read_labelled(archive, limit=count)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order], labels[order]
