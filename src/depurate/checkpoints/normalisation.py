"""The mean and standard deviation that a network expects its images to be normalised with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.errors import InputError

_FORMS = 'give "MEAN,STD" or, one number a channel, "M1,M2,M3/S1,S2,S3"'


@dataclass(frozen=True)
class Normalisation:
    """Means and standard deviations, one for all channels or one a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, images: Tensor) -> Tensor:
        """(images − mean) / std.

        Args:
            images: Shape (n, c, h, w), floating.

        Returns:
            The same shape.

        Raises:
            InputError: If there are neither one nor c numbers.
        """
        channels = images.shape[1]
        for name, numbers in (("means", self.mean), ("standard deviations", self.std)):
            if len(numbers) not in (1, channels):
                raise InputError(
                    f"normalize has {len(numbers)} {name}, but the images have {channels} channel(s)"
                )
        mean, std = (torch.tensor(n, dtype=images.dtype).view(1, -1, 1, 1) for n in (self.mean, self.std))
        return (images - mean) / std


def parse_normalize(text: str) -> Normalisation:
    """Read a mean and a standard deviation, for all channels or one a channel.

    Args:
        text: Such as `0.1307,0.3081` or `0.485,0.456,0.406/0.229,0.224,0.225`.

    Returns:
        The numbers.

    Raises:
        InputError: If it is not of these forms, or a standard deviation is not positive.

    >>> parse_normalize("0.5,0.25")
    Normalisation(mean=(0.5,), std=(0.25,))
    >>> parse_normalize("0.5")
    Traceback (most recent call last):
    depurate.errors.InputError: normalize '0.5': give "MEAN,STD" or, one number a channel, "M1,M2,M3/S1,S2,S3"
    """
    sides = text.split("/") if "/" in text else text.split(",")
    if len(sides) != 2:
        raise InputError(f"normalize {text!r}: {_FORMS}")
    try:
        mean, std = (tuple(float(number) for number in side.split(",")) for side in sides)
    except ValueError:
        raise InputError(f"normalize {text!r}: {_FORMS}") from None
    if not all(math.isfinite(number) for number in (*mean, *std)) or min(std) <= 0:
        raise InputError(f"normalize {text!r}: means must be finite and standard deviations positive")
    return Normalisation(mean, std)
