"""One layer of the paper's network: sparse noise undone by l1 on a span, each weight vector certified."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.recovery.exact import BELIEVABLE, chance
from depurate.recovery.levels import rounding_for, solve_levelled
from depurate.recovery.refit import refit
from depurate.solver import Solution


@dataclass(frozen=True, eq=False)
class Undone:
    """Weights of one layer with the noise taken away, one column a weight vector.

    Attributes:
        weights: Shape (d, p). Entries that the fit interpolates are the suspect's own, bit for bit.
        solution: Of min_u ‖suspect − anchor − A u‖₁.
        certified: Shape (p,), bool: optimal and unique, and the rows fitted exactly are more than the rank, each
            confirmed by the others, more than rounding would fit by accident, and as near the fit as
            `recovery.Rounding` says: in float64 within 1e-7 of the update, in float32 within 1e-3.
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
    rounding = rounding_for(anchor.dtype)
    found = solve_levelled(
        design, update, anchor, rounding, method=method, weights=weights, reweight=reweight
    )
    solution = found.solution
    again = refit(design, update, solution)
    purified = torch.where(solution.residuals == 0, suspect, anchor + again.fitted)
    # A fit of smooth misfits meets many rows within rounding: β of both layers trained at once, in float32.
    believed = chance(~found.lit, solution, found.level) < BELIEVABLE
    certified = (
        solution.certified & again.confirmed & believed & found.within(update, again.fitted, again.grown)
    )
    return Undone(purified, solution, certified)
