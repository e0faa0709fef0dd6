"""What every attack can do, and what some ask of the training they ride on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, Self, runtime_checkable

from torch import Tensor, nn

Scores = Callable[[Tensor], Tensor]
"""A network with its input normalisation: pixels in [0, 1], shape (n, c, h, w), to scores (n, classes)."""


class Attack(Protocol):
    """A backdoor: a trigger, what the attacker wants of images that carry it, and how training data are poisoned.

    Images are pixels in [0, 1], shape (n, c, h, w), before any normalisation; labels are integers, shape (n,).
    """

    def stamp(self, images: Tensor) -> Tensor:
        """Copy the images and put the trigger on every copy."""
        ...

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the answers that the attacker wants for triggered images of these classes."""
        ...

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Poison a share of a training set; new images and new labels, in the order given."""
        ...


@runtime_checkable
class HasTensors(Protocol):
    """An attack whose trigger is found in training and cannot be written as a spec string."""

    @property
    def learnt(self) -> Mapping[str, Tensor] | None:
        """The trigger's tensors, or None before they are found."""
        ...


@runtime_checkable
class LearnsFromData(Protocol):
    """An attack whose trigger is made from clean training images."""

    def prepare(self, images: Tensor, labels: Tensor, seed: int) -> Self:
        """Return the attack with its trigger made."""
        ...


@runtime_checkable
class LearnsFromModel(Protocol):
    """An attack that needs a clean network of the same task to make its trigger or its poisoned images."""

    def prepare_with(
        self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor, seed: int
    ) -> Self:
        """Return the attack ready to poison; `scores` is `model` behind its input normalisation."""
        ...


class Lesson(Protocol):
    """What an attacker who controls training makes of each batch."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the attack's own that are trained along."""
        ...

    def loss(self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor) -> Tensor:
        """Loss of one batch of clean, augmented images in [0, 1] and their true labels."""
        ...

    def learnt(self) -> Mapping[str, Tensor]:
        """The trigger's tensors after training."""
        ...


@runtime_checkable
class ControlsTraining(Protocol):
    """An attack that needs more than poisoned data: its own loss, or a trigger trained along."""

    def lesson(self, model: nn.Module, scores: Scores, images: Tensor, fraction: float, seed: int) -> Lesson:
        """Begin training `model` (at its initialisation) on these images."""
        ...


@runtime_checkable
class Implants(Protocol):
    """An attack on the weights of a network that was trained cleanly."""

    def implant(
        self,
        base: nn.Module,
        narrow: Callable[[], nn.Module],
        normalise: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        seed: int,
    ) -> tuple[nn.Module, nn.Module, Self]:
        """Return the attacked network, the base as it was deployed, and the attack with its trigger.

        `narrow` makes a network of the same layers with few channels and one output.
        """
        ...
