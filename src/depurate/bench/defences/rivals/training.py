"""What defences that train share: shuffled and augmented batches, optimisers with a schedule, accuracy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import pad
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from depurate.bench.defences.given import Given


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train with stochastic gradient descent.

    Attributes:
        epochs: Passes over the images.
        rate: First learning rate.
        batch: Images in a step.
        momentum: Of the descent.
        decay: Weight decay.
        drops: Epochs after which the rate falls tenfold; None lets it fall along a cosine.
    """

    epochs: int
    rate: float
    batch: int
    momentum: float = 0.9
    decay: float = 5e-4
    drops: tuple[int, ...] | None = None

    def optimiser(self, parameters: list[Tensor]) -> tuple[SGD, LRScheduler]:
        """Make the optimiser and the schedule of its rate."""
        descent = SGD(parameters, lr=self.rate, momentum=self.momentum, weight_decay=self.decay)
        if self.drops is None:
            return descent, CosineAnnealingLR(descent, T_max=max(self.epochs, 1))
        return descent, MultiStepLR(descent, milestones=list(self.drops), gamma=0.1)


def working_copy(model: nn.Module) -> nn.Module:
    """Copy a network to work on, in evaluation mode and in the memory layout that trains fastest on a CPU."""
    # Parameters that the suspect froze take part in every defence.
    copied = copy.deepcopy(model).eval().requires_grad_(True)
    return copied.to(memory_format=torch.channels_last)


def batches(count: int, size: int, generator: Generator) -> Iterator[Tensor]:
    """Yield one epoch of shuffled indices; a last batch of one image, which BatchNorm refuses, joins none."""
    for chosen in torch.split(torch.randperm(count, generator=generator), size):
        if len(chosen) > 1 or count == 1:
            yield chosen


def augment(images: Tensor, given: Given, generator: Generator) -> Tensor:
    """Move images over a black frame and mirror half of them, as far as `given` allows; returns new ones."""
    height, width = images.shape[-2:]
    framed = pad(images, (given.shift,) * 4, value=given.black)
    corners = torch.randint(0, 2 * given.shift + 1, (len(images), 2), generator=generator).tolist()
    shifted = torch.stack(
        [
            image[:, row : row + height, column : column + width]
            for image, (row, column) in zip(framed, corners, strict=True)
        ]
    )
    if given.mirrored:
        flipped = torch.rand(len(images), generator=generator) < 0.5
        shifted[flipped] = shifted[flipped].flip(-1)
    return shifted.contiguous(memory_format=torch.channels_last)


def epoch(
    given: Given, size: int, generator: Generator, *, augmented: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of labelled batches."""
    for chosen in batches(len(given.images), size, generator):
        images = given.images[chosen]
        yield augment(images, given, generator) if augmented else images, given.labels[chosen]


def training_steps(
    given: Given, schedule: Schedule, rate: LRScheduler, generator: Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the augmented batches of all epochs and move the rate along after each."""
    for _ in range(schedule.epochs):
        yield from epoch(given, schedule.batch, generator, augmented=True)
        rate.step()


def accuracy(model: nn.Module, given: Given) -> float:
    """Share of the labelled images that the network, in evaluation mode, classifies rightly."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        answers = torch.cat([model(batch).argmax(1) for batch in torch.split(given.images, 250)])
    model.train(was_training)
    return float((answers == given.labels).double().mean())
