"""One layer of the paper's network: sparse noise undone by l1 on a span, each weight vector certified."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.recovery.refit import refit
from depurate.solver import Solution, lad

# Rounding errors of the weights in units of their last place: gradient descent of T steps adds about √T of them,
# and the features of the recovered kernels a few more.
_ULPS = 2048
# One rounding serves all targets: a few units that hardly moved must not blur the others.
COARSEST = {torch.float64: 1e-7, torch.float32: 1e-3}


@dataclass(frozen=True, eq=False)
class Undone:
    """Weights of one layer with the noise taken away, one column a weight vector.

    Attributes:
        weights: Shape (d, p). Entries that the fit interpolates are the suspect's own, bit for bit.
        solution: Of min_u ‖suspect − anchor − A u‖₁.
        certified: Shape (p,), bool: optimal and unique, and the rows fitted exactly are more than the rank, each
            confirmed by the others.
    """

    weights: Tensor
    solution: Solution
    certified: Tensor


def undo(
    design: Tensor, suspect: Tensor, anchor: Tensor, *, weights: Tensor | None = None, reweight: int = 0
) -> Undone:
    """Take sparse noise from weights whose clean update lies in the span of a design.

    ũ = argmin_u ‖w ∘ (suspect − anchor − A u)‖₁, then the rows it fits exactly are solved once more and judged.

    Args:
        design: A, shape (d, r).
        suspect: Shape (d, p), float64 or float32.
        anchor: Same shape and dtype: what training started from.
        weights: w, shape (d, p); by default 1. With weights, optimality speaks of the weighted problem, the
            confirmation of the fitted rows by each other of the noise itself.
        reweight: Times to solve again with weights from the residuals, as in `lad`.

    Returns:
        The purified weights with what is proved of them.

    >>> import torch
    >>> design = torch.ones(5, 1, dtype=torch.float64)
    >>> suspect = torch.tensor([[2.0], [2.0], [7.0], [2.0], [2.0]], dtype=torch.float64)
    >>> found = undo(design, suspect, torch.zeros_like(suspect))
    >>> [round(value, 12) for value in found.weights[:, 0].tolist()], found.certified.tolist()
    ([2.0, 2.0, 2.0, 2.0, 2.0], [True])
    """
    update = suspect - anchor
    # Trimming stops where a gap of 1e-9 is sure for even weights; uneven ones make the same dual just miss it.
    method = "auto" if weights is None else "interior"
    rounding = _rounding(update, anchor)
    solution = lad(design, update, method=method, rounding=rounding, weights=weights, reweight=reweight)
    again = refit(design, update, solution)
    purified = torch.where(solution.residuals == 0, suspect, anchor + again.fitted)
    return Undone(purified, solution, solution.certified & again.confirmed)


def _rounding(update: Tensor, anchor: Tensor) -> float:
    """Size of the weights' rounding errors relative to the smallest update, within reason.

    Weights carry errors in proportion to themselves; a unit with a small β_j has a small update, so that the
    relative error of its update is larger. The median sees an update's size under noise on less than half of it.
    """
    finest: float = _ULPS * torch.finfo(anchor.dtype).eps
    size = update.abs().median(0).values
    moved = size > 0
    if not bool(moved.any()):
        return finest
    worst = float((anchor.abs().amax(0)[moved] / size[moved]).max())
    return min(max(finest, finest * worst / math.sqrt(update.shape[0])), COARSEST[anchor.dtype])
