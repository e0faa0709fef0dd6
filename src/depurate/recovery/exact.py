"""Exact recovery: least absolute deviations on the hard span of clean patches, certified kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.recovery.refit import refit
from depurate.solver import Solution, lad
from depurate.spans import Span

# A fit is no accident when chance makes as many zero residuals less often than this.
_BELIEVABLE = 1e-6
_UNREACHED = 1e-9


@dataclass(frozen=True)
class ExactFit:
    """Kernels recovered by l1 on a span, with what is proven of each.

    Attributes:
        kernels: Shape (kernels, fan_in); entries with zero residual are the suspect's own, bit for bit.
        hits: Support of the noise found, same shape, bool.
        certified: Shape (kernels,), bool: optimal and unique; every interpolated row confirmed by the others (rows
            outside the span's reach, such as pixels that are always black, are no evidence); and so many of them that
            residuals without exact zeros, rounded as these weights are, do so with probability under 10⁻⁶.
        gap: Relative duality gap, shape (kernels,).
        margin: max|z| over rows of zero residual, shape (kernels,).
        rank: Dimension of the span.
    """

    kernels: Tensor
    hits: Tensor
    certified: Tensor
    gap: Tensor
    margin: Tensor
    rank: int


def exact_recovery(
    span: Span, suspect: Tensor, anchor: Tensor, rounding: float, *, patience: int = 100
) -> ExactFit:
    """Recover all kernels of one group as the paper does, and certify each.

    ũ_j = argmin_u ‖Θ_j − W_j(0) − A u‖₁,  W̃_j = W_j(0) + A ũ_j, with A an orthonormal basis of the span.

    Args:
        span: Of the layer's clean patches.
        suspect: Θ, shape (kernels, fan_in), float32 or float64.
        anchor: W(0), same shape.
        rounding: Relative size of rounding in the weights, below which a residual counts as zero.
        patience: Iterations of the solver at most.

    Returns:
        The fit; `certified` is never true where the span is the whole space.

    Example:
        >>> span = Span(torch.ones(5, 1).double() / 5**0.5, torch.ones(1).double())
        >>> fit = exact_recovery(span, torch.tensor([[2.0, 2, 2, 9, 2]]).double(), torch.zeros(1, 5).double(), 1e-11)
        >>> [round(value, 12) for value in fit.kernels[0].tolist()], fit.certified.tolist()
        ([2.0, 2.0, 2.0, 2.0, 2.0], [True])

    Source: arXiv 2407.11031, recovery of the hidden layer.
    """
    update = (suspect.double() - anchor.double()).T
    solution = lad(span.directions, update, rounding=rounding, max_iterations=patience)
    hits = solution.residuals.T != 0
    again = refit(span.directions, update, solution)
    recovered = (anchor.double() + again.fitted.T).to(suspect.dtype)
    beyond_chance = again.confirmed & (_chance(span, update, solution, rounding) < _BELIEVABLE)
    return ExactFit(
        kernels=torch.where(hits, recovered, suspect),
        hits=hits,
        certified=solution.certified & beyond_chance & (0 < span.rank < len(span.directions)),
        gap=solution.gap,
        margin=solution.margin,
        rank=solution.rank,
    )


def _chance(span: Span, update: Tensor, solution: Solution, rounding: float) -> Tensor:
    """Probability of as many zero residuals beyond the rank if no residual were truly zero, shape (kernels,).

    Any l1 fit interpolates `rank` rows. Each other residual lies below its rounding level by accident, as often as
    the density of residuals near zero says, here bounded by level / lower quartile; the count is Poisson.
    """
    reach = torch.linalg.vector_norm(span.directions, dim=1, keepdim=True)
    # What the span does not reach (pixels that are always black) is fitted by nothing, and is no evidence.
    lit = reach[:, 0] > _UNREACHED
    if not bool(lit.any()):
        return torch.ones(update.shape[1], dtype=torch.float64, device=update.device)
    reach, update, residuals = reach[lit], update[lit], solution.residuals[lit]
    zeros = (residuals == 0).sum(0)
    level = rounding * (update.abs() + reach * torch.linalg.vector_norm(solution.coefficients, dim=0))
    sizes = residuals.abs().masked_fill(residuals == 0, torch.inf).sort(dim=0).values
    # Infinite where there is no residual at all: nothing is left to chance.
    quartile = sizes.gather(0, ((len(update) - zeros)[None] // 4))[0]
    by_accident = (len(update) - solution.rank) * level.mean(0) / quartile
    beyond = (zeros - solution.rank).clamp_min(0).double()
    answer: Tensor = torch.special.gammainc(beyond, by_accident)
    return torch.where(beyond > 0, answer, 1.0)
