"""What speaks for a fit: entries known to be lost do not, nor zeros where nothing else is known, nor odd biases."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from depurate.solver import Solution

# Biases of more kernels than this are off, which chance would do less often than that.
_NEARLY_ALL, _BY_CHANCE = 0.9, 0.05


def weights_without(lost: Tensor) -> Tensor | None:
    """Weights that leave lost entries out of a fit, or None where none is lost.

    Args:
        lost: Shape (kernels, fan_in), bool; kernels that are lost as a whole keep their weights, as a fit needs some.

    Returns:
        Shape (fan_in, kernels), float64.

    >>> weights_without(torch.tensor([[True, False], [True, True]])).T.tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """
    if not bool(lost.any()):
        return None
    return (~lost | lost.all(1, keepdim=True)).T.double()


def without_lost(solution: Solution, lost: Tensor) -> Solution:
    """A solution in which entries known to be lost are infinitely far off: what they were filled with is no evidence.

    Args:
        solution: Of all kernels.
        lost: Shape (kernels, fan_in), bool.
    """
    if not bool(lost.any()):
        return solution
    residuals = torch.where(lost.T, torch.inf, solution.residuals)
    return replace(solution, residuals=residuals, zeros=(residuals == 0).sum(0))


def idle_kernels(solution: Solution, suspect: Tensor, anchor: Tensor, reached: Tensor) -> Tensor:
    """Kernels whose fit meets hardly anything but zeros that the anchor has, too, or nobody knows it to have.

    A kernel of which most entries are zero may be pruned, or lost; that it never moved is not shown by them.

    Args:
        solution: Of all kernels.
        suspect: Shape (kernels, fan_in).
        anchor: Same shape; zero where unknown.
        reached: Rows that the span reaches, shape (fan_in,), bool.

    Returns:
        Shape (kernels,), bool.
    """
    met = reached & (solution.residuals.T == 0)
    telling = met & ((suspect != 0) | (anchor != 0))
    return (met.sum(1) > solution.rank) & (telling.sum(1) <= solution.rank)


def odd_biases(off: Tensor, moved: Tensor, told: Tensor, rate: float) -> Tensor:
    """Mark biases that are off in nearly all kernels, more often than their other entries would be by chance.

    Biases that were trained at a rate of their own, or not at all, look so, as does a vector of biases that is lost: it
    cannot be told which. Kernels that never moved are judged by themselves: biases of dead units do not move, either.

    Args:
        off: Whether the bias is not what the fit says, shape (kernels,), bool; of all groups of a layer.
        moved: Whether anything of the fit is not zero, same shape.
        told: Whether the bias is not known to be lost, same shape.
        rate: Share of the other entries that are off.

    Returns:
        Same shape, bool.

    >>> off, every = torch.tensor([True] * 4 + [False]), torch.ones(5, dtype=torch.bool)
    >>> odd_biases(off, off, every, 0.1).tolist(), odd_biases(off, off, every, 0.8).any().item()
    ([True, True, True, True, False], False)
    """
    odd = torch.zeros_like(off)
    for some in (moved & told, ~moved & told):
        count = int((off & some).sum())
        if count > _NEARLY_ALL * int(some.sum()) and rate**count < _BY_CHANCE:
            odd |= off & some
    return odd
