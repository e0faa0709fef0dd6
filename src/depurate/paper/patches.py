"""Images cut into patches that do not overlap."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from depurate.errors import InputError


def disjoint_patches(images: Tensor, patch: tuple[int, int], *, bias: bool = False) -> Tensor:
    """Cut every image into the disjoint patches P_1 x … P_m x, row by row from the top left.

    Args:
        images: Shape (n, c, h, w).
        patch: Height and width of a patch in pixels; they must divide h and w.
        bias: Append a 1 to every patch, so that the last number of a kernel is its bias.

    Returns:
        Shape (n, m, k) with m = (h / height)(w / width) and k = c·height·width, one more with `bias`; the numbers
        of a patch are in the order of a Conv2d kernel (channel, row, column).

    Raises:
        InputError: The images are not of four dimensions, or the patches do not tile them.

    >>> import torch
    >>> disjoint_patches(torch.arange(8.0).reshape(1, 1, 2, 4), (2, 2)).tolist()
    [[[0.0, 1.0, 4.0, 5.0], [2.0, 3.0, 6.0, 7.0]]]
    """
    if images.ndim != 4:
        raise InputError(f"images: shape {tuple(images.shape)}; expected (n, channels, height, width)")
    count, channels, *sides = images.shape
    if any(side < 1 or whole % side for side, whole in zip(patch, sides, strict=True)):
        raise InputError(f"patch: {patch[0]}x{patch[1]} does not tile images of {sides[0]}x{sides[1]}")
    tall, wide = sides[0] // patch[0], sides[1] // patch[1]
    grid = images.reshape(count, channels, tall, patch[0], wide, patch[1]).permute(0, 2, 4, 1, 3, 5)
    patches = grid.reshape(count, tall * wide, channels * patch[0] * patch[1])
    return pad(patches, (0, 1), value=1.0) if bias else patches
