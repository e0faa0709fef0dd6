"""Natural patches: a trigger that clean images are made of, by an attacker who knows depurate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from depurate.contamination.attacks.poisoning import poison_share
from depurate.errors import InputError


@dataclass(frozen=True)
class NaturalPatch:
    """Paste a square cut out of a clean training image, so that first-layer patches of the trigger are clean ones.

    What gives the attack away to a span of clean patches is then only its place, its edges, and what deeper layers
    make of it. The square is the one of highest variance among the training images that the seed draws.

    Attributes:
        size: Side of the square, in pixels.
        row: Where its upper edge goes.
        column: Where its left edge goes.
        target: The class that stamped images are labelled with.
        learnt: The square, from `prepare`; text does not hold it.

    Source: depurate's own, adaptive.
    """

    size: int = 8
    row: int = 19
    column: int = 19
    target: int = 0
    learnt: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    def stamp(self, images: Tensor) -> Tensor:
        """Paste the square into a copy of every image.

        Raises:
            InputError: There is no square yet, or it does not lie inside the images.
        """
        if self.learnt is None:
            raise InputError(f"{self!r}: has no square yet; cut it out with prepare or load it")
        height, width = images.shape[-2:]
        if not (0 <= self.row <= height - self.size and 0 <= self.column <= width - self.size):
            raise InputError(f"{self!r}: does not lie within images of {height}x{width} pixels")
        stamped = images.clone()
        rows, columns = (slice(first, first + self.size) for first in (self.row, self.column))
        stamped[..., rows, columns] = self.learnt["square"].to(images)
        return stamped

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def prepare(self, images: Tensor, labels: Tensor, seed: int) -> Self:
        """Cut the square out of the training images of other classes."""
        generator = torch.Generator().manual_seed(seed)
        others = images[labels != self.target]
        some = others[torch.randperm(len(others), generator=generator)[:64]]
        squares = some.unfold(2, self.size, 1).unfold(3, self.size, 1).permute(0, 2, 3, 1, 4, 5)
        squares = squares.reshape(-1, images.shape[1], self.size, self.size)
        chosen = squares.flatten(1).var(1).argmax()
        return replace(self, learnt={"square": squares[chosen].clone()})

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Paste the square into a random share of a training set, labelled with the target."""
        return poison_share(self, images, labels, fraction, seed)
