"""Which images of a training set an attacker poisons, shared by the attacks on data."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.contamination.attacks.protocol import Attack
from depurate.errors import InputError


def choose(labels: Tensor, fraction: float, seed: int, *, only: int | None = None) -> Tensor:
    """Draw round(fraction·n) positions without replacement.

    Args:
        labels: Shape (n,), integers.
        fraction: Share of the whole set, 0 to 1.
        seed: Decides which.
        only: Draw from this class alone, and at most all of it.

    Returns:
        Positions, shape (m,), int64.

    Raises:
        InputError: The fraction is not within 0 and 1, or the class is empty.

    >>> choose(torch.tensor([3, 1, 3, 1]), 0.5, seed=0, only=1).sort().values.tolist()
    [1, 3]
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"fraction: {fraction}; expected a number from 0 to 1")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if only is not None:
        order = order[labels.cpu()[order] == only]
        if not len(order):
            raise InputError(f"labels: no image of class {only} to poison")
    return order[: round(fraction * len(labels))]


def relabel(attack: Attack, images: Tensor, labels: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Stamp the chosen images and give them the labels that the attacker wants.

    Args:
        attack: Whose trigger and wishes.
        images: Shape (n, c, h, w).
        labels: Shape (n,), integers.
        chosen: Positions from `choose`.

    Returns:
        New images and new labels, in the order given.
    """
    at, where = chosen.to(images.device), chosen.to(labels.device)
    poisoned, relabelled = images.clone(), labels.clone()
    if len(chosen):
        poisoned[at] = attack.stamp(images[at])
        relabelled[where] = attack.wanted(labels[where])
    return poisoned, relabelled


def poison_share(
    attack: Attack, images: Tensor, labels: Tensor, fraction: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Stamp a random share of a training set and give it the labels that the attacker wants.

    Args:
        attack: Whose trigger and wishes.
        images: Shape (n, c, h, w).
        labels: Shape (n,), integers.
        fraction: Share of the whole set, 0 to 1.
        seed: Decides which.

    Returns:
        New images and new labels, in the order given.

    Raises:
        InputError: The labels do not match the images, or the fraction is not within 0 and 1.
    """
    check_pairs(images, labels)
    return relabel(attack, images, labels, choose(labels, fraction, seed))


def check_pairs(images: Tensor, labels: Tensor) -> None:
    """Refuse labels that do not match the images.

    Raises:
        InputError: There is not one label an image.
    """
    if labels.shape != images.shape[:1]:
        raise InputError(f"labels: shape {tuple(labels.shape)}; expected ({images.shape[0]},)")
