"""Units of the last hidden layer, which attackers aim at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from depurate.contamination.attacks.protocol import Scores
from depurate.errors import InputError


def last_layer(model: nn.Module) -> nn.Linear:
    """Find the dense layer that gives the scores: the last one registered.

    Raises:
        InputError: The network has no dense layer.

    >>> last_layer(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))).out_features
    2
    """
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not dense:
        raise InputError(f"{type(model).__name__}: has no dense layer to aim at")
    return dense[-1]


def features(model: nn.Module, scores: Scores, images: Tensor) -> Tensor:
    """Run images and return what the last layer sees, shape (n, units); gradients flow.

    Args:
        model: The network.
        scores: The same behind its input normalisation.
        images: Pixels in [0, 1].

    Returns:
        The last layer's input.
    """
    seen: list[Tensor] = []
    layer = last_layer(model)
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        scores(images)
    finally:
        handle.remove()
    return torch.cat(seen)


def strongest_unit(model: nn.Module, scores: Scores, images: Tensor, target: int) -> int:
    """Find the hidden unit that adds most to a class's score on these images: largest weight times mean value."""
    with torch.no_grad():
        values = features(model, scores, images).mean(0)
        return int((last_layer(model).weight[target] * values).argmax())


def excitation(model: nn.Module, scores: Scores, images: Tensor, unit: int) -> Tensor:
    """Mean value of one hidden unit on these images."""
    return features(model, scores, images)[:, unit].mean()
