"""Trojan: a square or a watermark whose pixels were optimised to excite one unit of a clean network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn

from depurate.contamination.attacks.gradients import ascend
from depurate.contamination.attacks.poisoning import poison_share
from depurate.contamination.attacks.protocol import Scores
from depurate.contamination.attacks.units import excitation, strongest_unit
from depurate.errors import InputError


@dataclass(frozen=True)
class Trojan:
    """Overlay x·(1 − α·mask) + α·mask·picture, the picture found by gradient ascent on one unit's input.

    The unit is the one of the last hidden layer that adds most to the target's score on clean images. The mask is
    a square in the lower right corner, or a watermark: a ring with a slanted bar across, over most of the image.

    Attributes:
        shape: `square` or `watermark`.
        alpha: α; a watermark is meant to be see-through.
        steps: Gradient steps on the picture.
        target: The class that stamped images are labelled with.
        learnt: The picture, from `prepare_with`; text does not hold it.

    Source: Liu et al., Trojaning Attack on Neural Networks, NDSS 2018, sections III and IV; poisoned images come
    from the training set here instead of from inverting the network.
    """

    shape: str = "square"
    alpha: float = 1.0
    steps: int = 100
    target: int = 0
    learnt: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.shape not in ("square", "watermark") or not 0 < self.alpha <= 1:
            raise InputError(f"{self!r}: shape must be square or watermark, alpha above 0 and at most 1")

    def mask(self, height: int, width: int) -> Tensor:
        """Give the mask, shape (height, width), 0 or 1.

        >>> int(Trojan().mask(28, 28).sum()), int(Trojan(shape="watermark").mask(28, 28).sum()) > 100
        (25, True)
        """
        mask = torch.zeros(height, width)
        if self.shape == "square":
            side = round(0.18 * height)
            mask[height - 1 - side : height - 1, width - 1 - side : width - 1] = 1
            return mask
        rows = torch.linspace(-1, 1, height)[:, None].expand(height, width)
        columns = torch.linspace(-1, 1, width)[None, :].expand(height, width)
        distance = (rows.square() + columns.square()).sqrt()
        mask[
            ((distance > 0.65) & (distance < 0.85)) | (((rows - columns).abs() < 0.15) & (distance < 0.85))
        ] = 1
        return mask

    def stamp(self, images: Tensor) -> Tensor:
        """Overlay the picture on a copy of every image.

        Raises:
            InputError: The picture has not been found yet.
        """
        if self.learnt is None:
            raise InputError(f"{self!r}: has no picture yet; find it with prepare_with or load it")
        return self._overlay(images, self.learnt["picture"].to(images))

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def prepare_with(
        self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor, seed: int
    ) -> Self:
        """Find the picture on a clean network."""
        generator = torch.Generator().manual_seed(seed)
        start = torch.rand(images.shape[1:], generator=generator)
        chosen = torch.randperm(len(images), generator=generator)[:32]
        some = images[chosen]
        unit = strongest_unit(model, scores, some, self.target)

        def gain(picture: Tensor) -> Tensor:
            return excitation(model, scores, self._overlay(some, picture), unit)

        picture = ascend(gain, start, steps=self.steps, rate=0.05)
        return replace(self, learnt={"picture": picture})

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Overlay the picture on a random share of a training set, labelled with the target."""
        return poison_share(self, images, labels, fraction, seed)

    def _overlay(self, images: Tensor, picture: Tensor) -> Tensor:
        share = self.alpha * self.mask(*images.shape[-2:]).to(images)
        return images * (1 - share) + share * picture
