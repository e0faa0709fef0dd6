"""Training of the zoo's networks, with the attacker's own loss where an attack brings one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from depurate.contamination.attacks.protocol import Lesson, Scores
from depurate.purification import Progress
from depurate.zoo.networks import Network
from depurate.zoo.recipes import Recipe

_ORDER = 0x6F726465
Begin = Callable[[nn.Module, Scores], Lesson]


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained network and the tensors of a trigger that was trained along."""

    model: nn.Module
    learnt: Mapping[str, Tensor]


class PlainLesson:
    """Cross-entropy on the labels as given: what whoever trains on poisoned data does unknowingly."""

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def loss(self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(scores(images), labels)

    def learnt(self) -> Mapping[str, Tensor]:
        return {}


def train(
    kind: Network,
    initial: nn.Module,
    recipe: Recipe,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    begin: Begin | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a copy of a network.

    Args:
        kind: Gives the input normalisation.
        initial: The network at its initialisation; not changed.
        recipe: How.
        images: Pixels in [0, 1], shape (n, c, h, w), on the device to train on.
        labels: Shape (n,), integers.
        seed: Of the order of the images and of their mirroring and shifting.
        begin: Makes the attacker's lesson for the copy; None for cross-entropy.
        progress: Called with ("training", steps done, steps in all).

    Returns:
        The trained copy, in evaluation mode on the CPU, and the trigger's tensors.
    """
    model = copy.deepcopy(initial).to(images.device).to(memory_format=torch.channels_last).train()

    def scores(pixels: Tensor) -> Tensor:
        answers: Tensor = model(kind.normalise(pixels))
        return answers

    lesson = PlainLesson() if begin is None else begin(model, scores)
    steps = recipe.epochs * -(-len(images) // recipe.batch)
    optimiser = torch.optim.SGD(
        model.parameters(),
        recipe.rate,
        recipe.momentum,
        weight_decay=recipe.decay,
        nesterov=recipe.one_cycle,
    )
    schedule = _schedule(optimiser, recipe, steps)
    helper = _helper(lesson)
    # Where the processor multiplies bfloat16 in hardware, a step of a ResNet takes 0.6 of the time.
    narrow = torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step, (batch, answers) in enumerate(_batches(images, labels, recipe, seed), start=1):
            optimiser.zero_grad()
            if helper is not None:
                helper.zero_grad()
            with narrow:
                loss = lesson.loss(model, scores, batch, answers)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if helper is not None:
                helper.step()
            if progress is not None:
                progress("training", step, steps)
    return Trained(model.cpu().to(memory_format=torch.contiguous_format).eval(), lesson.learnt())


def _schedule(optimiser: torch.optim.SGD, recipe: Recipe, steps: int) -> LRScheduler:
    if recipe.one_cycle:
        return OneCycleLR(optimiser, recipe.rate, total_steps=steps)
    return LambdaLR(optimiser, lambda _: 1.0)


def _helper(lesson: Lesson) -> torch.optim.Adam | None:
    parameters = list(lesson.parameters())
    return torch.optim.Adam(parameters, 1e-2) if parameters else None


def _batches(images: Tensor, labels: Tensor, recipe: Recipe, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once an epoch, in random order, mirrored and shifted as the recipe says."""
    # Not the stream that chose the poisoned images: in the same order they would fill the first batches.
    generator = torch.Generator().manual_seed(_ORDER ^ seed)
    for _ in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)
        for chosen in order.split(recipe.batch):  # type: ignore[no-untyped-call]
            at = chosen.to(images.device)
            yield augment(images[at], recipe, generator), labels[at]


def augment(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Mirror half of the images and shift all, as far as the recipe says; edges are filled with zeros."""
    if recipe.flips:
        mirrored = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
        images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
    if recipe.crops:
        height, width = images.shape[2:]
        padded = F.pad(images, [recipe.crops] * 4)
        starts = torch.randint(0, 2 * recipe.crops + 1, (2, len(images)), generator=generator)
        rows = (starts[0][:, None] + torch.arange(height)).to(images.device)
        columns = (starts[1][:, None] + torch.arange(width)).to(images.device)
        each = torch.arange(len(images), device=images.device)[:, None, None]
        images = padded[each, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return images
