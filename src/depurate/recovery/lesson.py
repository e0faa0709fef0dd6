"""What a walk teaches: the images the purified network is shown, and those that say what is wanted for them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Lesson:
    """What a walk shows the purified network, and what the suspect is shown to say what is wanted of it.

    Attributes:
        shown: Batches for the purified network.
        meant: As many batches of the same sizes; the suspect's outputs on them are wanted. Usually the same images;
            where `shown` carries a trigger, the images without it.
        artificial: Places of the batches that no BatchNorm statistics are taken from.

    Example:
        >>> import torch
        >>> Lesson.of([torch.zeros(2, 1)]).artificial
        frozenset()
    """

    shown: list[Tensor]
    meant: list[Tensor]
    artificial: frozenset[int] = frozenset()

    @classmethod
    def of(cls, batches: list[Tensor]) -> Lesson:
        """The plain lesson: do on these images what the suspect does."""
        return cls(batches, batches)
