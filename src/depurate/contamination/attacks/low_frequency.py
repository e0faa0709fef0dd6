"""Low frequency: a trigger along the strongest directions of clean images, by an attacker who knows depurate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from depurate.contamination.attacks.poisoning import poison_share
from depurate.errors import InputError

_SAMPLE = 5000


@dataclass(frozen=True)
class LowFrequency:
    """Add a picture that lies in the span of the leading principal components of clean images.

    Those are smooth and hold most of the energy, so that the trigger's patches lie where clean patches do:
    x + amplitude·d/max|d| with d = Σ_i ±√λ_i u_i over the leading components u_i, the signs drawn at random.

    Attributes:
        components: How many.
        amplitude: Largest change of a pixel.
        signs: Seed of the signs.
        target: The class that changed images are labelled with.
        learnt: The direction d/max|d|, from `prepare`; text does not hold it.

    Source: depurate's own, adaptive; smooth triggers in Zeng et al., Rethinking the Backdoor Attacks' Triggers,
    arXiv 2104.03413.
    """

    components: int = 8
    amplitude: float = 0.3
    signs: int = 0
    target: int = 0
    learnt: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    def stamp(self, images: Tensor) -> Tensor:
        """Add the picture to a copy of every image and clip to [0, 1].

        Raises:
            InputError: The picture has not been made yet.
        """
        if self.learnt is None:
            raise InputError(f"{self!r}: has no picture yet; make it with prepare or load it")
        return (images + self.amplitude * self.learnt["direction"].to(images)).clamp(0, 1)

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def prepare(self, images: Tensor, labels: Tensor, seed: int) -> Self:
        """Find the principal components of the training images, and combine them."""
        generator = torch.Generator().manual_seed(seed)
        some = images[torch.randperm(len(images), generator=generator)[:_SAMPLE]].flatten(1).double()
        centred = some - some.mean(0)
        values, vectors = torch.linalg.eigh(centred.mT @ centred / len(some))
        leading = vectors.flip(1)[:, : self.components]
        # The sign of an eigenvector is an accident of the routine that finds it.
        leading = leading * leading.gather(0, leading.abs().argmax(0, keepdim=True)).sign()
        signs = torch.randint(0, 2, (leading.shape[1],), generator=torch.Generator().manual_seed(self.signs))
        weights = values.flip(0)[: self.components].clamp_min(0).sqrt() * (2 * signs - 1)
        direction = (leading @ weights).reshape(images.shape[1:])
        return replace(self, learnt={"direction": (direction / direction.abs().max()).to(images.dtype)})

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Add the picture to a random share of a training set, labelled with the target."""
        return poison_share(self, images, labels, fraction, seed)
