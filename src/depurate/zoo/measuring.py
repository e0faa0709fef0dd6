"""What a network answers: accuracy on clean images and the success of an attack on triggered ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from depurate.contamination.attacks import Attack
from depurate.errors import InputError
from depurate.zoo.networks import Network

_BATCH = 250


def answers(model: nn.Module, kind: Network, images: Tensor) -> Tensor:
    """Classify images.

    Args:
        model: In evaluation mode, on any device.
        kind: Gives the input normalisation.
        images: Pixels in [0, 1], shape (n, c, h, w).

    Returns:
        The most likely class of each, shape (n,), on the images' device.
    """
    device = next(model.parameters()).device
    with torch.no_grad():
        batches = images.split(_BATCH)  # type: ignore[no-untyped-call]
        return torch.cat([model(kind.normalise(batch.to(device))).argmax(1) for batch in batches]).to(
            images.device
        )


def accuracy(model: nn.Module, kind: Network, images: Tensor, labels: Tensor) -> float:
    """Measure the share of clean images answered rightly, 0 to 1."""
    return float((answers(model, kind, images) == labels).double().mean())


def success(model: nn.Module, kind: Network, attack: Attack, images: Tensor, labels: Tensor) -> float:
    """Measure the share of triggered images answered as the attacker wants.

    Images whose own class is what the attacker wants are left out: the attack gains nothing there.

    Args:
        model: In evaluation mode.
        kind: Gives the input normalisation.
        attack: With its trigger.
        images: Clean pixels in [0, 1], shape (n, c, h, w).
        labels: Their classes.

    Returns:
        The share, 0 to 1.

    Raises:
        InputError: All images are of the class that the attacker wants.
    """
    wanted = attack.wanted(labels)
    others = wanted != labels
    if not others.any():
        raise InputError("labels: every image is of the class that the attacker wants; nothing to measure")
    found = answers(model, kind, attack.stamp(images[others]))
    return float((found == wanted[others]).double().mean())
