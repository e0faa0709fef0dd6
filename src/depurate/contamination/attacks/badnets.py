"""BadNets: a small patch of constant value, and the target's label on the images that carry it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination.attacks.poisoning import poison_share
from depurate.errors import InputError


@dataclass(frozen=True)
class BadNets:
    """A rectangle of one value, stamped on images; a network trained on some of them obeys it.

    Attributes:
        rows: First row of the rectangle and the row after its last, in pixels.
        columns: First column and the column after the last, in pixels.
        value: What the pixels are set to, in the units of the images.
        target: The class that stamped images are labelled with.

    >>> import torch
    >>> int(BadNets().stamp(torch.zeros(2, 1, 28, 28)).sum())
    18

    Source: Gu, Dolan-Gavitt & Garg, BadNets, arXiv 1708.06733.
    """

    rows: tuple[int, int] = (24, 27)
    columns: tuple[int, int] = (24, 27)
    value: float = 1.0
    target: int = 0

    def stamp(self, images: Tensor) -> Tensor:
        """Copy the images and put the rectangle on every copy.

        Args:
            images: Shape (..., h, w).

        Returns:
            A new tensor of the same shape and dtype.

        Raises:
            InputError: The rectangle is empty or does not lie inside the images.
        """
        for name, (first, end), size in zip(
            ("rows", "columns"), (self.rows, self.columns), images.shape[-2:], strict=True
        ):
            if not 0 <= first < end <= size:
                raise InputError(
                    f"{self!r}: {name} {first} to {end} do not lie within images of {size} {name}"
                )
        stamped = images.clone()
        stamped[..., slice(*self.rows), slice(*self.columns)] = self.value
        return stamped

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label.

        >>> import torch
        >>> BadNets(target=7).wanted(torch.tensor([1, 7])).tolist()
        [7, 7]
        """
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Stamp a random share of a training set and label it with the target.

        The images are drawn without replacement from the whole set, the target's own class included.

        Args:
            images: Shape (n, ..., h, w).
            labels: Shape (n,), integers.
            fraction: Share of the images, 0 to 1; their number is round(fraction·n).
            seed: Decides which.

        Returns:
            New images and new labels, in the order given.

        Raises:
            InputError: The labels do not match the images, or the fraction is not within 0 and 1.

        >>> import torch
        >>> _, labels = BadNets(target=7).poison(torch.zeros(10, 1, 28, 28), torch.zeros(10).long(), 0.2, seed=0)
        >>> int((labels == 7).sum())
        2
        """
        return poison_share(self, images, labels, fraction, seed)
