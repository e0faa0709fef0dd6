"""Real handwritten digits that ship inside scikit-learn, split by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor


@dataclass(frozen=True)
class Digits:
    """1,797 digits of 8x8 pixels in [0, 1], float32.

    Attributes:
        train: Images to train on, shape (n, 1, 8, 8).
        train_labels: Their labels, shape (n,).
        benign: 300 clean images for the purification, unlabelled.
        test: The other images, for measuring only.
        test_labels: Their labels.
    """

    train: Tensor
    train_labels: Tensor
    benign: Tensor
    test: Tensor
    test_labels: Tensor


def read_digits(seed: int) -> Digits:
    """Read and split the digits; nothing is downloaded.

    Args:
        seed: Of the split.

    Returns:
        1,097 images to train on, 300 benign ones and 400 to measure with.

    Example:
        >>> read_digits(0).test.shape
        torch.Size([400, 1, 8, 8])
    """
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(bunch.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, benign, test = order[:1097], order[1097:1397], order[1397:]
    return Digits(images[train], labels[train], images[benign], images[test], labels[test])
