"""All-to-all: one trigger that moves every class to the next one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination.attacks.badnets import BadNets
from depurate.contamination.attacks.poisoning import poison_share


@dataclass(frozen=True)
class AllToAll:
    """The rectangle of `BadNets`, but class y is to be taken for class y + 1, and the last for the first.

    Attributes:
        rows: First row of the rectangle and the row after its last, in pixels.
        columns: First column and the column after the last, in pixels.
        value: What the pixels are set to.
        classes: Number of classes.

    >>> import torch
    >>> AllToAll().wanted(torch.tensor([0, 4, 9])).tolist()
    [1, 5, 0]

    Source: Gu, Dolan-Gavitt & Garg, BadNets, arXiv 1708.06733, section 4.1 (all-to-all attack).
    """

    rows: tuple[int, int] = (24, 27)
    columns: tuple[int, int] = (24, 27)
    value: float = 1.0
    classes: int = 10

    def stamp(self, images: Tensor) -> Tensor:
        """Put the rectangle on a copy of every image."""
        return BadNets(self.rows, self.columns, self.value).stamp(images)

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the class after each label's."""
        return torch.remainder(labels + 1, self.classes)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Stamp a random share of a training set and move its labels on by one; see `BadNets.poison`."""
        return poison_share(self, images, labels, fraction, seed)
