"""The whole way on real checkpoints and images, where they are available."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from depurate.checkpoints import (
    load_state,
    nonfinite_entries,
    read_checkpoint,
    read_images,
    read_labelled,
    write_checkpoint,
)

pytestmark = pytest.mark.real_data


def folder_from(variable: str) -> Path:
    if variable not in os.environ:
        pytest.skip(f"{variable} is not set: no real data to read")
    return Path(os.environ[variable])


@pytest.fixture
def data() -> Path:
    return folder_from("DEPURATE_DATA")


@pytest.fixture
def models() -> Path:
    return folder_from("DEPURATE_MODELS")


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def test_a_backdoored_lenet_has_its_published_accuracy(data: Path, models: Path) -> None:
    suspect = read_checkpoint(models / "lenet-mnist" / "badnets.safetensors")
    images, labels = read_labelled("torchvision:MNIST", data_root=data)
    model = load_state(lenet(), suspect, source=str(suspect.path)).eval()
    with torch.no_grad():
        correct = (model(images[:2000]).argmax(1) == labels[:2000]).double().mean()
    assert correct.item() == pytest.approx(0.978, abs=0.0006)


def test_every_checkpoint_reads_and_is_written_back_bit_for_bit(models: Path, tmp_path: Path) -> None:
    for path in sorted(models.rglob("*.safetensors")):
        suspect = read_checkpoint(path)
        assert sum(nonfinite_entries(suspect.state).values()) == 0
        write_checkpoint(tmp_path / "pure.safetensors", suspect.state, like=suspect, metadata={})
        pure = read_checkpoint(tmp_path / "pure.safetensors").state
        assert pure.keys() == suspect.state.keys()
        assert all(
            pure[key].dtype == v.dtype and torch.equal(pure[key], v) for key, v in suspect.state.items()
        )


def test_cifar10_straight_from_its_zip(data: Path) -> None:
    found = read_images(data / "cifar10" / "test.zip", limit=300, normalize="0.47,0.25")
    assert found.tensor.shape == (300, 3, 32, 32)
    assert found.skipped == ()
    images, labels = read_labelled(data / "cifar10" / "test.zip", limit=300)
    torch.testing.assert_close((images - 0.47) / 0.25, found.tensor)
    assert set(labels.tolist()) == set(range(10))
