"""Ways to vary benign images that leave a network's answers mostly as they are, found without labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers import Score, answers

# A way to vary images is taken while so many answers stay: digits do not bear mirroring, nor does a network that was
# poisoned with warps bear to be shown moved images.
_KEPT = 0.8
# Moves by up to this share of the side: four pixels of 32.
_REACH = 1 / 8


@dataclass(frozen=True)
class Variations:
    """x ↦ x moved by up to `reach` pixels along each side, edges repeated, and mirrored every other time.

    Attributes:
        reach: In pixels; 0 where moves change too many answers.
        mirrored: Whether images are mirrored at all.

    >>> images = torch.arange(4.0).view(1, 1, 2, 2)
    >>> bool(Variations(0, mirrored=False).on(images, torch.Generator()).equal(images))
    True
    """

    reach: int
    mirrored: bool

    def on(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Vary images of shape (n, c, h, w), each in a way of its own."""
        if self.reach:
            images = _moved(images, self.reach, generator)
        if self.mirrored:
            turned = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
            images = torch.where(turned[:, None, None, None], images.flip(3), images)
        return images


def tolerated(score: Score, images: Tensor, generator: torch.Generator) -> Variations:
    """Find the ways to vary some images that leave four fifths of a network's answers as they are.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign.
        generator: Of the moves.

    Returns:
        What may be done to the images.

    >>> where = lambda images: images[:, 0, 0]  # the answer is where the light is
    >>> lights = torch.eye(8).view(8, 1, 1, 8)
    >>> tolerated(where, lights, torch.Generator().manual_seed(0))
    Variations(reach=0, mirrored=False)
    """
    own = answers(score, images)

    def bears(varied: Tensor) -> bool:
        return float((answers(score, varied) == own).double().mean()) >= _KEPT

    reach = max(1, round(_REACH * min(images.shape[2:])))
    return Variations(reach if bears(_moved(images, reach, generator)) else 0, mirrored=bears(images.flip(3)))


def _moved(images: Tensor, reach: int, generator: torch.Generator) -> Tensor:
    wide = F.pad(images, (reach,) * 4, mode="replicate")
    corners = torch.randint(0, 2 * reach + 1, (len(images), 2), generator=generator).tolist()
    height, width = images.shape[2:]
    return torch.stack(
        [
            picture[:, row : row + height, column : column + width]
            for picture, (row, column) in zip(wide, corners, strict=True)
        ]
    )
