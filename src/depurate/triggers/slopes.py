"""Whether a network's scores can be followed down to the pixels, as every search for triggers does."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.triggers.search import Score


def has_slopes(score: Score, images: Tensor) -> bool:
    """Whether the scores' slopes on the pixels are there and anything but zero.

    They are not where a network works without gradients inside, as with a frozen part under `torch.no_grad`, rounds
    its pixels, or takes no image alone, as some normalisations do not that kept nothing of training.

    Args:
        score: The network.
        images: A few, shape (n, c, h, w).

    Returns:
        Whether a descent on the pixels leads anywhere.

    >>> has_slopes(lambda images: images.flatten(1), torch.rand(2, 1, 2, 2))
    True
    >>> has_slopes(lambda images: images.round().flatten(1), torch.rand(2, 1, 2, 2))
    False
    """
    shown = images.detach().clone().requires_grad_()
    try:
        scores = score(shown[:1])
    except ValueError:
        return False
    if not scores.requires_grad:
        return False
    (slopes,) = torch.autograd.grad(scores.square().sum(), shown, allow_unused=True)
    return slopes is not None and bool((slopes != 0).any())
