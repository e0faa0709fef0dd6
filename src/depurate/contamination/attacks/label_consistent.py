"""Label-consistent: images of the target class made hard to recognise, with a patch; labels stay true."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.badnets import BadNets
from depurate.contamination.attacks.gradients import perturb
from depurate.contamination.attacks.poisoning import check_pairs, choose, relabel
from depurate.contamination.attacks.protocol import Scores
from depurate.errors import InputError


@dataclass(frozen=True)
class LabelConsistent:
    """Poison only the target class: adversarial noise against a clean network, then squares in the corners.

    The noise hides what the class looks like, so that training has to rely on the squares. In use the squares are
    enough.

    Attributes:
        radius: Largest change of a pixel by the noise.
        steps: Gradient steps of the noise.
        size: Side of the squares, in pixels.
        corners: 1 for the lower right corner, 4 for all.
        value: What the squares are set to.
        target: The class whose images are poisoned, and which triggered images are to be taken for.
        scores: The clean network behind its input normalisation; `prepare_with` sets it, text does not hold it.

    >>> int(LabelConsistent(size=2, corners=4).stamp(torch.zeros(1, 1, 8, 8)).sum())
    16

    Source: Turner, Tsipras & Madry, Label-Consistent Backdoor Attacks, arXiv 1912.02771, sections 3 and 4
    (adversarial variant, ℓ_∞; patterns in all four corners).
    """

    radius: float = 0.3
    steps: int = 20
    size: int = 3
    corners: int = 4
    value: float = 1.0
    target: int = 0
    scores: Scores | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.corners not in (1, 4) or self.size < 1 or self.steps < 1:
            raise InputError(f"{self!r}: corners must be 1 or 4, size and steps at least 1")

    def stamp(self, images: Tensor) -> Tensor:
        """Put the squares on a copy of every image."""
        height, width = images.shape[-2:]
        low, right = (height - self.size, height), (width - self.size, width)
        first = (0, self.size)
        places = [(low, right), (first, right), (low, first), (first, first)][: self.corners]
        for rows, columns in places:
            images = BadNets(rows, columns, self.value).stamp(images)
        return images

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def prepare_with(
        self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor, seed: int
    ) -> Self:
        """Take a clean network to make the noise against."""
        return replace(self, scores=scores)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Perturb and stamp images of the target class; no label changes.

        Args:
            images: Pixels in [0, 1], shape (n, c, h, w).
            labels: Shape (n,), integers.
            fraction: Share of the whole set; more than the target class holds poisons all of that class.
            seed: Decides which.

        Returns:
            New images and the labels as they were.

        Raises:
            InputError: No clean network was given, or see `Sig.poison`.
        """
        check_pairs(images, labels)
        if self.scores is None:
            raise InputError(f"{self!r}: needs a clean network (prepare_with) before it can poison")
        chosen = choose(labels, fraction, seed, only=self.target)
        scores = self.scores

        def loss(pixels: Tensor, answers: Tensor) -> Tensor:
            return F.cross_entropy(scores(pixels), answers)

        hardened = images.clone()
        hardened[chosen] = perturb(loss, images[chosen], labels[chosen], radius=self.radius, steps=self.steps)
        return relabel(self, hardened, labels, chosen)
