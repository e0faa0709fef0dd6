"""Brings pixels to floats, channels and sizes that a network takes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from depurate.errors import InputError

# ITU-R BT.601, as in PIL and torchvision.
_LUMA = (0.299, 0.587, 0.114)


def to_float(pixels: Tensor, *, source: str) -> Tensor:
    """Pixels as float32: bytes over 255, floats as they are.

    >>> to_float(torch.tensor([0, 255], dtype=torch.uint8), source="a.npy")
    tensor([0., 1.])
    """
    if pixels.dtype == torch.uint8:
        return pixels.float() / 255
    if pixels.is_floating_point():
        return pixels.float()
    raise InputError(f"{source}: pixels are {pixels.dtype}; save them as uint8 (0 to 255) or as floats")


def to_channels(images: Tensor, channels: int | None, *, source: str) -> Tensor:
    """Images with 1 or 3 channels as asked: repeat grey, weigh colour to grey, drop a fourth (alpha).

    Args:
        images: Shape (n, c, h, w).
        channels: 1, 3, or None to keep them.
        source: Name for errors.

    Returns:
        Shape (n, channels, h, w).

    Raises:
        InputError: If there is no such conversion.

    >>> to_channels(torch.ones(1, 1, 2, 2), 3, source="a.npy").shape
    torch.Size([1, 3, 2, 2])
    """
    found = images.shape[1]
    if channels is None or channels == found:
        return images
    if found == 1:
        return images.repeat(1, channels, 1, 1)
    if channels == 3 and found == 4:
        return images[:, :3]
    if channels == 1 and found in (3, 4):
        weights = torch.tensor(_LUMA, dtype=images.dtype).view(1, 3, 1, 1)
        return (images[:, :3] * weights).sum(1, keepdim=True)
    raise InputError(f"{source}: images have {found} channels, which cannot be turned into {channels}")


def to_size(images: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Images cut about their centre to the aspect of `size`, then resized to it (bilinear, antialiased).

    Args:
        images: Shape (n, c, h, w), floating.
        size: Height and width, or None to keep them.

    Returns:
        Shape (n, c, *size).

    >>> to_size(torch.zeros(1, 3, 40, 20), (8, 8)).shape
    torch.Size([1, 3, 8, 8])
    """
    if size is None or tuple(images.shape[2:]) == size:
        return images
    height, width = images.shape[2:]
    scale = min(height / size[0], width / size[1])
    cut = max(1, min(height, round(size[0] * scale))), max(1, min(width, round(size[1] * scale)))
    top, left = (height - cut[0]) // 2, (width - cut[1]) // 2
    centre = images[:, :, top : top + cut[0], left : left + cut[1]]
    return interpolate(centre, size, mode="bilinear", align_corners=False, antialias=True)
