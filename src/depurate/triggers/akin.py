"""Warps akin to one that was found: the same turned round and enlarged, and others at random, where they work too."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.triggers.forms import Warp
from depurate.triggers.search import Score, success

_TIMES = (-1, 2, -2, 4, -4)
_RANDOM = 4
# No wider than this share of the picture: what bends a picture more is no small change.
_WIDEST = 1 / 28
_WORKS = 0.5


def warps_akin(score: Score, images: Tensor, warp: Warp, seed: int = 0) -> tuple[Warp, ...]:
    """Give warps other than one found that lead most images to its goal as well.

    Some networks answer the goal to whatever was resampled, however it was bent: then the smallest warp alone says too
    little of what has to be taught away. Others react to one warp alone, and none is given.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign.
        warp: Found.
        seed: Of the random warps.

    Returns:
        Those that work on half of the images.

    Source: our own.
    """
    widest = _WIDEST * images.shape[3]
    enlarged = [Warp(warp.target, times * warp.knots) for times in _TIMES]
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        Warp(warp.target, torch.randn(warp.knots.shape, generator=generator).to(warp.knots))
        for _ in range(_RANDOM)
    ]
    sized = [Warp(warp.target, widest / other.size * other.knots) for other in drawn]
    tried = [other for other in enlarged if other.size <= max(widest, warp.size)] + sized
    works = success(score, images, tried)
    return tuple(other for other, share in zip(tried, works, strict=True) if share >= _WORKS)
