"""Networks with ways of their own, made to behave as all the rest expects: images left alone, scores for shares."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from depurate.analysis import read_scores

# Below this a share counts as this; and how far a row of shares may be from a sum of one.
_LEAST, _ROUNDING = 1e-30, 1e-4


def adapted(model: nn.Module, images: Tensor) -> nn.Module:
    """Have a network work on a copy of images that it changes, and return scores where it ends in a softmax.

    One that normalises with `images.sub_(mean)` trains well, as each batch is made anew; shown the same images twice
    it would see other ones. Of shares the logarithms are taken, so that a softmax of them is what the network says.

    Args:
        model: A working copy that accepts the images; hooks are put on it where needed.
        images: Some of what it will be shown, shape (n, c, h, w).

    Returns:
        The same network.

    >>> class InPlace(nn.Module):
    ...     def forward(self, images):
    ...         return images.sub_(1.0).softmax(1)
    >>> images = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> adapted(InPlace(), images)(images).softmax(1)[0]
    tensor([0.7311, 0.2689])
    >>> images[0].tolist()
    [2.0, 1.0]
    """
    ends: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda _, given, made: ends.append(made))
        for module in model.modules()
        if isinstance(module, nn.Softmax)
    ]
    tried = images.clone()
    before = tried._version
    with torch.no_grad():
        scores = read_scores(model(tried))
    for handle in handles:
        handle.remove()
    if tried._version != before:
        model.register_forward_pre_hook(_on_a_copy)
    # The module is asked for, too: where weights are NaN, so are the shares.
    if any(made is scores for made in ends) or _are_shares(scores):
        model.register_forward_hook(_as_scores)
    return model


def _are_shares(scores: Tensor) -> bool:
    """Whether every row is a distribution over the classes."""
    if scores.ndim != 2 or scores.shape[1] < 2 or not scores.is_floating_point():
        return False
    rounding = max(_ROUNDING, 2 * torch.finfo(scores.dtype).eps)
    return bool((scores >= 0).all() and ((scores.sum(1) - 1).abs() < rounding).all())


def _on_a_copy(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    images, *rest = given
    return (images.clone(), *rest)


def _as_scores(_: nn.Module, given: tuple[Any, ...], output: object) -> Tensor:
    return read_scores(output).clamp_min(_LEAST).log()
