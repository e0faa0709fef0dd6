"""What a defence is given besides the suspect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Given:
    """Clean images and what is known about the suspect; a defence uses what it asks for and no more.

    Attributes:
        images: Labelled clean images as the network takes them, shape (n, c, h, w).
        labels: Their classes, shape (n,).
        unlabelled: Clean images without labels, shape (m, c, h, w).
        anchor: State that training started from; None when unknown.
        black: What a black pixel is after normalisation, (0 - mean) / deviation.
        unit: What a step of 1 in pixels of [0, 1] is after normalisation, 1 / deviation.
        shift: Pixels by which training may move an image, as the suspect's own training did; 0 where it did not.
        mirrored: Whether training may mirror images.
    """

    images: Tensor
    labels: Tensor
    unlabelled: Tensor
    anchor: Mapping[str, Tensor] | None = None
    black: float = 0.0
    unit: float = 1.0
    shift: int = 0
    mirrored: bool = False

    def to(self, device: torch.device) -> Given:
        """Put images, labels and anchor on a device."""
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            unlabelled=self.unlabelled.to(device),
            anchor=None if self.anchor is None else {k: v.to(device) for k, v in self.anchor.items()},
        )

    def split(self, share: float) -> tuple[Given, Given]:
        """Hold back the last share of the labelled images.

        Args:
            share: Of the labelled images, 0 to 1.

        Returns:
            What is left to work with, and what is held back.
        """
        held = max(1, round(share * len(self.images)))
        kept = replace(self, images=self.images[:-held], labels=self.labels[:-held])
        return kept, replace(self, images=self.images[-held:], labels=self.labels[-held:])


class Defence(Protocol):
    """A configured defence: a frozen dataclass whose fields are its hyper-parameters.

    Attributes:
        source: The paper it follows, or one sentence.
    """

    source: ClassVar[str]

    @property
    def needs(self) -> frozenset[str]:
        """Of `labels`, `images` (unlabelled) and `anchor`, what it must be given, as it is configured."""
        ...

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        """Return a repaired copy of the network; neither the network nor what is given is modified."""
        ...
