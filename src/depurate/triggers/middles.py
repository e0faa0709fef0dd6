"""The middles of large pictures: where a network judges these much like the whole, a search on them costs a quarter."""

from __future__ import annotations

from torch import Tensor

from depurate.triggers.effort import effort_on
from depurate.triggers.search import Score, answers

# Less than this along a side shows too little of a picture.
_LEAST = 112
# Four networks for 224 pixels answer 0.46 to 0.57 of the middles as they do the pictures, a tenth of them by chance.
_ALIKE = 1 / 3


def middle(images: Tensor, side: int | None) -> Tensor:
    """Cut out the middle of images.

    Args:
        images: Shape (n, c, h, w).
        side: Of the square to cut out; None for the whole images.

    Returns:
        Shape (n, c, side, side), or the images.

    >>> middle(torch.arange(16.0).view(1, 1, 4, 4), 2).flatten().tolist()
    [5.0, 6.0, 9.0, 10.0]
    """
    if side is None:
        return images
    top, left = ((length - side) // 2 for length in images.shape[2:])
    return images[:, :, top : top + side, left : left + side].contiguous()


def side_of_middles(score: Score, images: Tensor) -> int | None:
    """Choose the side of the middles that searches by descent may be made on, half the picture's or 112 pixels.

    A network that averages over positions judges parts of a picture by the same features as the whole, and a trigger
    found in a part is one in the whole.

    Args:
        score: Images (n, c, h, w) to scores.
        images: Benign.

    Returns:
        The side; None where pictures are not large, or where the network takes no others or answers them otherwise.

    >>> side_of_middles(lambda images: images.mean((2, 3)), torch.rand(9, 3, 224, 224))
    112
    >>> side_of_middles(lambda images: images.mean((2, 3)), torch.rand(9, 3, 32, 32)) is None
    True
    """
    effort = effort_on(images)
    height, width = images.shape[2:]
    side = max(_LEAST, min(height, width) // 2)
    if not effort.middles or 2 * side * side > height * width:
        return None
    images = images[: effort.judged]
    try:
        alike = answers(score, images) == answers(score, middle(images, side))
    except (RuntimeError, ValueError, AssertionError):  # as where patches of a fixed number are expected
        return None
    return side if bool(alike.double().mean() >= _ALIKE) else None
