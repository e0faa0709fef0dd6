"""Distillation without labels: all recovered layers taught together by the suspect, on varied benign images."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from depurate.analysis import scored_by
from depurate.purification.lessons import with_triggers
from depurate.purification.variations import tolerated
from depurate.triggers import AWAY, Score, Trigger, answers, at_once, drawn, turned

# Keeps log(1 − p) and its slope finite.
_LEAST = 1e-6
# A tensor of zeros, as biases begin, has steps as long as if it were of this size.
_SMALLEST = 1e-3
_WARM_UP = 5

Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Distillation:
    """How to distil.

    The weight was chosen on five ResNet-14 of the zoo (.1 leaves up to twice as much, .2 costs up to .9 points).

    Attributes:
        epochs: Passes over the benign images.
        batch: Of benign images, and as many with triggers; fewer where pictures are large.
        rate: Longest step of Adam, as a share of the root mean square of each tensor.
        weight: Of the images with triggers.
        seed: Of the order and of the variations.
    """

    epochs: int = 20
    batch: int = 125
    rate: float = 0.01
    weight: float = 0.2
    seed: int = 0


def distil(
    suspect: nn.Module,
    purified: nn.Module,
    layers: Sequence[str],
    batches: list[Tensor],
    triggers: Sequence[Trigger],
    how: Distillation,
    told: Told,
) -> nn.Module:
    """Train recovered layers together: answer varied benign images as the suspect does, and no trigger.

    min_θ E KL(f(x') ‖ g_θ(x')) − weight · E log(1 − p_θ(goal | x + trigger)),

    f the suspect, x' moved and mirrored copies of x as far as f bears them, without those that f answers with a goal
    and x not. Where a trigger leads each class to another, −log p_θ(own answer) takes the second place.

    Args:
        suspect: Teacher, in evaluation mode.
        purified: Start; not changed.
        layers: Names of the layers to train: weights and biases; everything else stays.
        batches: Benign images.
        triggers: To resist.
        how: Settings.
        told: Called with (epochs done, in all).

    Returns:
        Another network.

    Source: Hinton et al. 2015 (distillation); Pang et al., BCU, CVPR 2023, distil backdoored networks on unlabelled
        images, too, from a damaged start; starting from a recovery and resisting found triggers are our own.
    """
    learner = copy.deepcopy(purified).eval()
    # A class of its own may keep other numbers beside these, some of them whole.
    parameters = [
        parameter.requires_grad_()
        for name in layers
        for kind, parameter in learner.get_submodule(name).named_parameters(recurse=False)
        if kind in ("weight", "bias")
    ]
    teacher, student = scored_by(suspect), scored_by(learner)
    generator = torch.Generator().manual_seed(how.seed)
    images = torch.cat(batches)
    marked = _Marked.of(teacher, batches, triggers)
    bears, own = tolerated(teacher, images, generator), answers(teacher, images)
    goals = sorted({trigger.target for trigger in triggers})
    size = min(how.batch, at_once(images))
    adam, schedule = _descent(parameters, how.rate, how.epochs * math.ceil(len(images) / size))
    for epoch in range(how.epochs):
        for chosen in torch.split(torch.randperm(len(images), generator=generator), size):
            at = chosen.to(images.device)
            varied = bears.on(images[at], generator)
            with torch.no_grad():
                meant = teacher(varied)
            kept = ~turned(meant.argmax(1), goals, own[at]).any(0)
            some = marked.some(size, generator)
            loss = _unlike(meant[kept], student, varied[kept]) + how.weight * some.followed(student)
            _step_down(loss, adam, schedule)
        told(epoch + 1, how.epochs)
    return learner.requires_grad_(False)


@dataclass(frozen=True)
class _Marked:
    """Images with triggers, where each trigger leads, and what the suspect answers to the images without."""

    shown: Tensor
    goals: Tensor
    own: Tensor

    @classmethod
    def of(cls, score: Score, batches: list[Tensor], triggers: Sequence[Trigger]) -> _Marked:
        """Put each trigger on the images, leaving out those that are at its goal by themselves."""
        shown, goals, own = [], [], []
        for trigger, plain, carrying in with_triggers(batches, triggers):
            answered = answers(score, plain)
            away = answered != trigger.target
            shown.append(carrying[away])
            own.append(answered[away])
            goals.append(torch.full_like(answered[away], trigger.target))
        return cls(torch.cat(shown), torch.cat(goals), torch.cat(own))

    def some(self, count: int, generator: torch.Generator) -> _Marked:
        if not len(self.shown):
            return self
        at = drawn(len(self.shown), count, generator).to(self.shown.device)
        return _Marked(self.shown[at], self.goals[at], self.own[at])

    def followed(self, score: Score) -> Tensor:
        """Mean of −log(1 − p(goal)), or of −log p(own) where any class but the own is the goal; 0 of no images."""
        if not len(self.shown):
            return self.shown.new_zeros(())
        logs = score(self.shown).log_softmax(1)
        leads = logs.gather(1, self.goals.clamp_min(0)[:, None])[:, 0].exp()
        stays = logs.gather(1, self.own[:, None])[:, 0]
        return torch.where(self.goals == AWAY, -stays, -(1 - leads).clamp_min(_LEAST).log()).mean()


def _descent(parameters: Sequence[Tensor], rate: float, steps: int) -> tuple[Adam, LambdaLR]:
    """Adam with steps in proportion to each tensor, rising at first and then falling to nothing."""
    sizes = (float(p.detach().square().mean().sqrt().clamp_min(_SMALLEST)) for p in parameters)
    adam = Adam([{"params": [p], "lr": rate * size} for p, size in zip(parameters, sizes, strict=True)])
    return adam, LambdaLR(
        adam, lambda done: 0.5 * (1 + math.cos(math.pi * done / steps)) * min(1, (done + 1) / _WARM_UP)
    )


def _step_down(loss: Tensor, adam: Adam, schedule: LambdaLR) -> None:
    """Make one step that lowers a loss; none where its slope is not finite."""
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    for group in adam.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                parameter.grad.nan_to_num_(0.0, 0.0, 0.0)
    adam.step()
    schedule.step()


def _unlike(meant: Tensor, student: Score, images: Tensor) -> Tensor:
    """Mean KL(teacher ‖ student), the teacher by its scores; nothing where there are no images."""
    if not len(images):
        return images.new_zeros(())
    return torch.nn.functional.kl_div(
        student(images).log_softmax(1), meant.log_softmax(1), reduction="batchmean", log_target=True
    )
