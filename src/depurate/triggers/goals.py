"""What a trigger is to achieve: one class for every image, or any class but the image's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from depurate.triggers.forms import AWAY

# Keeps log(1 - p) and its slope finite where the own class has all the probability.
_LEAST = 1e-6


def misses(scores: Tensor, goals: Sequence[int], own: Tensor) -> Tensor:
    """Say how far scores are from each goal: −log p(goal), or −log(1 − p(own)) for `AWAY`.

    Args:
        scores: Shape (goals, n, classes).
        goals: Classes, or `AWAY`.
        own: Answers to the same n images without any trigger, shape (n,).

    Returns:
        Shape (goals, n).

    >>> scores = torch.tensor([[[0.0, 0.0]], [[0.0, 0.0]]])
    >>> [round(float(miss), 3) for miss in misses(scores, [1, AWAY], torch.tensor([0]))]
    [0.693, 0.693]
    """
    logs = scores.log_softmax(2)
    wanted = torch.tensor([max(goal, 0) for goal in goals], device=scores.device)
    missed = -logs.gather(2, wanted[:, None, None].expand(*scores.shape[:2], 1))[..., 0]
    if AWAY not in goals:
        return missed
    mine = logs.gather(2, own[None, :, None].expand(*scores.shape[:2], 1))[..., 0]
    return torch.where(_away(goals, scores), -(1 - mine.exp() + _LEAST).log(), missed)


def reached(answers: Tensor, goals: Sequence[int], own: Tensor) -> Tensor:
    """Tell which answers, shape (goals, n), are where each goal wants them.

    >>> reached(torch.tensor([[1, 0], [1, 0]]), [1, AWAY], torch.tensor([0, 0])).tolist()
    [[True, False], [True, False]]
    """
    wanted = torch.tensor(list(goals), device=answers.device)[:, None]
    return torch.where(_away(goals, answers), answers != own, answers == wanted)


def turned(answers: Tensor, goals: Sequence[int], own: Tensor) -> Tensor:
    """Tell which answers, shape (n,), are where each goal wants them and were not before; shape (goals, n).

    >>> turned(torch.tensor([1, 1, 0]), [1, AWAY], torch.tensor([0, 1, 0])).tolist()
    [[True, False, False], [True, False, False]]
    """
    now = answers.expand(len(goals), -1)
    return reached(now, goals, own) & ~reached(own.expand(len(goals), -1), goals, own)


def _away(goals: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor([goal == AWAY for goal in goals], device=like.device)[:, None]
