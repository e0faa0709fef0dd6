"""Descent on pixels: the steps that attackers take on images while a network is held fixed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_BATCH = 250


def perturb(
    loss: Callable[[Tensor, Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    steps: int,
) -> Tensor:
    """Raise a loss by projected gradient steps of size 2.5·radius/steps, within ‖x′ − x‖_∞ ≤ radius and [0, 1].

    Args:
        loss: Of a batch of pixels and labels; the mean over the batch.
        images: Pixels in [0, 1], shape (n, c, h, w).
        labels: Shape (n,), handed to the loss.
        radius: How far a pixel may move.
        steps: Gradient steps.

    Returns:
        The perturbed images.

    Source: Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv 1706.06083.
    """
    moved = []
    for start in range(0, len(images), _BATCH):
        clean, answers = images[start : start + _BATCH], labels[start : start + _BATCH]
        found = clean.clone()
        for _ in range(steps):
            found.requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(found, answers), found)
            stepped = found.detach() + 2.5 * radius / steps * slope.sign()
            found = stepped.clamp(clean - radius, clean + radius).clamp(0, 1)
        moved.append(found)
    return torch.cat(moved) if moved else images.clone()


def ascend(gain: Callable[[Tensor], Tensor], start: Tensor, *, steps: int, rate: float) -> Tensor:
    """Raise a gain of one picture of pixels in [0, 1] by Adam.

    Args:
        gain: Of the picture; a scalar.
        start: The picture to begin with.
        steps: Gradient steps.
        rate: Adam's.

    Returns:
        The picture.
    """
    picture = start.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([picture], rate)
    for _ in range(steps):
        optimiser.zero_grad()
        (picture.grad,) = torch.autograd.grad(-gain(picture), picture)
        optimiser.step()
        with torch.no_grad():
            picture.clamp_(0, 1)
    return picture.detach()
