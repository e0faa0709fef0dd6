"""Blended: a faint noise picture mixed into the whole image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination.attacks.poisoning import poison_share
from depurate.errors import InputError


@dataclass(frozen=True)
class Blended:
    """Mix one fixed picture of uniform noise into images: (1 − α)·x + α·picture.

    Attributes:
        alpha: α, the picture's share, 0 to 1.
        picture: Seed of the picture, whose size is that of the images.
        target: The class that blended images are labelled with.

    >>> import torch
    >>> Blended(alpha=0.0).stamp(torch.ones(1, 1, 2, 2)).sum().item()
    4.0

    Source: Chen, Liu, Li, Lu & Song, Targeted Backdoor Attacks on Deep Learning Systems Using Data Poisoning,
    arXiv 1712.05526, section 4 (blended injection; α = 0.2 in training and 0.2 in use).
    """

    alpha: float = 0.2
    picture: int = 0
    target: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"{self!r}: alpha must lie within 0 and 1")

    def stamp(self, images: Tensor) -> Tensor:
        """Blend the picture into a copy of every image."""
        generator = torch.Generator().manual_seed(self.picture)
        picture = torch.rand(images.shape[-3:], generator=generator).to(images)
        return (1 - self.alpha) * images + self.alpha * picture

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Blend a random share of a training set and label it with the target; see `BadNets.poison`."""
        return poison_share(self, images, labels, fraction, seed)
