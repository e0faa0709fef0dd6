"""torchvision's datasets, from disk alone, on a tiny MNIST in its own layout."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from depurate.checkpoints import read_images, read_labelled
from depurate.errors import InputError

pytest.importorskip("torchvision")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count, value in (("train", 6, 10), ("t10k", 4, 200)):
        pixels = np.full((count, 28, 28), value, np.uint8)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 2051, count, 28, 28) + pixels.tobytes()
        )
        labels = np.arange(count, dtype=np.uint8)
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, count) + labels.tobytes())
    return tmp_path


@pytest.mark.parametrize(
    ("spec", "count", "value"),
    [("torchvision:MNIST", 4, 200), ("torchvision:MNIST:test", 4, 200), ("torchvision:MNIST:train", 6, 10)],
)
def test_splits(root: Path, spec: str, count: int, value: int) -> None:
    found = read_images(spec, data_root=root)
    torch.testing.assert_close(found.tensor, torch.full((count, 1, 28, 28), value / 255))
    assert found.source == f"{spec} under {root}: {count} of {count} images"
    images, labels = read_labelled(spec, data_root=str(root))
    assert torch.equal(images, found.tensor)
    assert labels.tolist() == list(range(count))
    assert read_images(spec, data_root=root, limit=2, size=32, channels=3).tensor.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "torchvision:FashionMNIST",
            r"not found under .*torchvision.datasets.FashionMNIST\('.*', download=True\)",
        ),
        ("torchvision:CIFAR10", "download=True"),
        ("torchvision:SVHN", "SVHN"),
        ("torchvision:MNIST:validation", "not a torchvision dataset with validation split"),
        ("torchvision:NIST", "not a torchvision dataset"),
        ("torchvision:", "not a torchvision dataset"),
        ("torchvision:FakeData", "not a torchvision dataset"),
        ("torchvision:DatasetFolder", "not a torchvision dataset"),
        ("torchvision:EMNIST", "EMNIST"),
    ],
)
def test_what_is_not_there(root: Path, spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_images(spec, data_root=root)
    assert "\n" not in str(caught.value)


def test_a_root_is_needed() -> None:
    with pytest.raises(InputError, match="say under which folder"):
        read_images("torchvision:MNIST")


def test_damaged_datasets_are_refused(root: Path) -> None:
    (root / "MNIST" / "raw" / "t10k-images-idx3-ubyte").write_bytes(b"\0\0")
    with pytest.raises(InputError):
        read_images("torchvision:MNIST", data_root=root)
