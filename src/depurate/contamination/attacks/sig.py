"""SIG: a horizontal sinusoid over the whole image; labels stay true."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination.attacks.poisoning import check_pairs, choose, relabel


@dataclass(frozen=True)
class Sig:
    """Add v(i, j) = Δ·sin(2π j f / m) to images of the target class only, so that no label is wrong.

    j is the column, counted from 1, and m the number of columns.

    Attributes:
        amplitude: Δ in use, in units of the pixels (20/255 in the source, whose pixels end at 255).
        train: Δ in training, which may be fainter.
        frequency: f, periods across the image.
        target: The class whose images are poisoned, and which triggered images are to be taken for.

    >>> import torch
    >>> grey = torch.full((1, 1, 2, 8), 0.5)
    >>> Sig(amplitude=0.1, frequency=2).stamp(grey)[0, 0, 0].mul(10).round().int().tolist()
    [6, 5, 4, 5, 6, 5, 4, 5]

    Source: Barni, Kallas & Tondi, A New Backdoor Attack in CNNs by Training Set Corruption Without Label
    Poisoning, arXiv 1902.11237, equation 2.
    """

    amplitude: float = 0.16
    train: float = 0.16
    frequency: float = 6.0
    target: int = 0

    def stamp(self, images: Tensor) -> Tensor:
        """Add the sinusoid to a copy of every image and clip to [0, 1]."""
        return self._add(images, self.amplitude)

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Add the sinusoid to images of the target class; no label changes.

        Args:
            images: Pixels in [0, 1], shape (n, c, h, w).
            labels: Shape (n,), integers.
            fraction: Share of the whole set; more than the target class holds poisons all of that class.
            seed: Decides which.

        Returns:
            New images and the labels as they were.

        Raises:
            InputError: The labels do not match the images, the fraction is not within 0 and 1, or the target
                class is empty.
        """
        check_pairs(images, labels)
        chosen = choose(labels, fraction, seed, only=self.target)
        return relabel(Sig(self.train, self.train, self.frequency, self.target), images, labels, chosen)

    def _add(self, images: Tensor, amplitude: float) -> Tensor:
        columns = images.shape[-1]
        places = torch.arange(1, columns + 1, dtype=torch.float64)
        wave = amplitude * torch.sin(2 * math.pi * places * self.frequency / columns)
        return (images + wave.to(images)).clamp(0, 1)
