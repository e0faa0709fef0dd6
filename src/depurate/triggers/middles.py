"""The middles of large pictures: where a network judges these much like the whole, a search on them costs a quarter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from depurate.spans import shown
from depurate.triggers.effort import effort_on
from depurate.triggers.search import Score, answers

# Less than this along a side shows too little of a picture.
_LEAST = 112
# Four networks for 224 pixels answer 0.46 to 0.57 of the middles as they do the pictures, a tenth of them by chance.
_ALIKE = 1 / 3


def around(images: Tensor, side: int, place: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Cut a square out of images, with a place as near to its centre as the edges allow.

    Args:
        images: Shape (n, c, h, w).
        side: Of the square.
        place: Row and column.

    Returns:
        Shape (n, c, side, side), and the row and column where it begins.

    >>> around(torch.zeros(1, 1, 9, 9), 4, (8, 3))[1]
    (5, 1)
    """
    top, left = (
        min(max(at - side // 2, 0), length - side) for at, length in zip(place, images.shape[2:], strict=True)
    )
    return images[:, :, top : top + side, left : left + side].contiguous(), (top, left)


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
    height, width = images.shape[2:]
    return around(images, side, (height // 2, width // 2))[0]


def side_of_middles(model: nn.Module, score: Score, images: Tensor) -> int | None:
    """Choose the side of the middles that searches by descent may be made on, half the picture's or 112 pixels.

    A network that averages over positions judges parts of a picture by the same features as the whole, and a trigger
    found in a part is one in the whole. One that keeps positions apart may know its trigger in one place only.

    Args:
        model: In evaluation mode.
        score: Its images (n, c, h, w) to scores.
        images: Benign.

    Returns:
        The side; None where pictures are not large, or where the network takes no others or answers them otherwise.

    >>> net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False))
    >>> side_of_middles(net, net, torch.rand(9, 3, 1, 1).expand(-1, -1, 224, 224))
    112
    """
    effort = effort_on(images)
    height, width = images.shape[2:]
    side = max(_LEAST, min(height, width) // 2)
    if not effort.middles or side > min(height, width) or 2 * side * side > height * width:
        return None
    images = images[: effort.judged]
    if _keeps_positions(model, images[:2]):
        return None
    try:
        alike = answers(score, images) == answers(score, middle(images, side))
    except (RuntimeError, ValueError, AssertionError):  # as where patches of a fixed number are expected
        return None
    return side if bool(alike.double().mean() >= _ALIKE) else None


def _keeps_positions(model: nn.Module, images: Tensor) -> bool:
    """Whether a dense layer reads more numbers an image than there were channels before it: places, one by one."""
    channels, keeps = images.shape[1], False

    def look(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], made: object) -> None:
        nonlocal channels, keeps
        read = shown(inputs, named) if isinstance(module, nn.Linear) else None
        dense = read is not None and read.ndim == 2
        keeps = keeps or (read is not None and dense and read.shape[1] > channels)
        if isinstance(made, Tensor) and (dense or made.ndim == 4):
            channels = made.shape[1]

    handles = [module.register_forward_hook(look, with_kwargs=True) for module in model.modules()]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for handle in handles:
            handle.remove()
    return keeps
