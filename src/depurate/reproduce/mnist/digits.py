"""Real digits for the paper's network: reading them, training on a few, and measuring what a recovery gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor

from depurate.errors import InputError
from depurate.paper import (
    PaperRecovery,
    PatchNetwork,
    Trained,
    disjoint_patches,
    l1_threshold,
    relative_errors,
    train,
)
from depurate.reproduce.seeds import stream

PATCH = (28, 14)
"""Two patches an image, left and right: m = 2, k = 392."""
UNITS = 300
_TESTED = 2000
_EXACT = 1e-8


@dataclass(frozen=True, eq=False)
class Task:
    """A network trained on a few digits to tell even from odd.

    Attributes:
        trained: Before and after.
        patches: Of the training images, shape (n, 2, 392).
        others: Patches of 2,000 images it has not seen, for accuracy.
        parity: Their targets, −1 for even and 1 for odd.
    """

    trained: Trained
    patches: Tensor
    others: Tensor
    parity: Tensor


@cache
def read_images(name: str, folder: Path, training: bool) -> tuple[Tensor, Tensor]:
    """Pixels 0 to 255 and classes of one of torchvision's datasets of grey images.

    Raises:
        InputError: It is not there.
    """
    kind = getattr(torchvision.datasets, name)
    try:
        found = kind(str(folder), train=training)
    except (RuntimeError, OSError) as error:
        raise InputError(f"{folder}: no {name} of torchvision there ({error}); give --data") from error
    return found.data, found.targets


def patches_of(images: Tensor) -> Tensor:
    """Patches of images of 28x28 pixels of 0 to 255, float64, in [0, 1]."""
    return disjoint_patches(images[:, None].double() / 255, PATCH)


def draw_images(name: str, folder: Path, training: bool, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw images without replacement, none of those that accuracy is measured on: patches and classes."""
    images, labels = read_images(name, folder, training)
    if not training:
        images, labels = images[_TESTED:], labels[_TESTED:]
    order = torch.randperm(
        len(images), generator=torch.Generator().manual_seed(stream(seed, f"{name} {training}"))
    )[:count]
    return patches_of(images[order]), labels[order]


def train_task(folder: Path, count: int, seed: int) -> Task:
    """Train on `count` digits drawn by the seed: kernels first, output second."""
    patches, labels = draw_images("MNIST", folder, True, count, seed)
    images, answers = read_images("MNIST", folder, False)
    start = PatchNetwork.initialise(UNITS, patches.shape[2], seed=stream(seed, "weights"))
    trained = train(start, patches, _parity(labels), steps=300)
    return Task(trained, patches, patches_of(images[:_TESTED]), _parity(answers[:_TESTED]))


def accuracy(task: Task, network: PatchNetwork) -> float:
    """Share of the images not seen whose parity a network gets right."""
    return float((network.predict(task.others).sign() == task.parity).double().mean())


def account(task: Task, suspect: PatchNetwork, recovery: PaperRecovery, benign: Tensor) -> dict[str, Any]:
    """Everything the figures need of one recovery, as plain values."""
    clean, found = task.trained.final, recovery.network
    errors = relative_errors(recovery, clean)
    exact = errors.kernels <= _EXACT
    before = (suspect.kernels - clean.kernels).norm(dim=1) / clean.kernels.norm(dim=1)
    lit = int((benign.flatten(0, 1) != 0).any(0).sum())
    rank = recovery.kernel_solution.rank
    return {
        "accuracy_clean": accuracy(task, clean),
        "accuracy_before": accuracy(task, suspect),
        "accuracy_after": accuracy(task, found),
        "kernel_error_before": float(before.median()),
        "kernel_error": float(errors.kernels.median()),
        "worst_kernel_error": float(errors.kernels.max()),
        "output_error": errors.output,
        "exact": float(exact.double().mean()),
        "certified": float(recovery.kernels_certified.double().mean()),
        "false": int((recovery.kernels_certified & ~exact).sum()),
        "output_certified": recovery.output_certified,
        "unchanged": bool(torch.equal(found.kernels, suspect.kernels)),
        "rank": rank,
        "lit": lit,
        "threshold": l1_threshold(rank / lit) if rank < lit else 0.0,
    }


def _parity(labels: Tensor) -> Tensor:
    return 2.0 * (labels % 2).double() - 1
