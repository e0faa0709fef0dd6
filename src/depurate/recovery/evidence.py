"""What speaks for a fit: entries known to be lost do not, nor zeros where nothing else is known, nor odd biases."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from depurate.solver import Solution

# Biases of nearly all kernels are off, and hardly any of their other entries: of so many kernels at least.
_NEARLY_ALL, _HARDLY, _FEWEST = 0.9, 0.5, 8


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


def odd_biases(hits: Tensor) -> bool:
    """Whether the last entries, biases, of nearly all kernels are off, and of others hardly any.

    Biases that were trained at a rate of their own, or not at all, look so, as does a vector of biases that is lost: it
    cannot be told which.

    Args:
        hits: Shape (kernels, fan_in), bool.

    >>> hits = torch.zeros(10, 5, dtype=torch.bool)
    >>> hits[:, 4] = True
    >>> odd_biases(hits), odd_biases(hits.flip(1))
    (True, False)
    """
    if len(hits) < _FEWEST or hits.shape[1] < 2:
        return False
    share = hits.double().mean(0)
    return bool(share[-1] > _NEARLY_ALL) and bool(share[:-1].max() < _HARDLY)
