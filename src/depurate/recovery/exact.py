"""Exact recovery: least absolute deviations on the hard span of clean patches, certified kernel by kernel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.recovery.evidence import idle_kernels, odd_biases, weights_without, without_lost
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
        idle: Kernels that met hardly anything but zeros and were left as they are, shape (kernels,), bool.
        odd: Whether nearly all biases were off, and left as they are.
    """

    kernels: Tensor
    hits: Tensor
    certified: Tensor
    gap: Tensor
    margin: Tensor
    rank: int
    idle: Tensor
    odd: bool


def exact_recovery(
    span: Span,
    suspect: Tensor,
    anchor: Tensor,
    rounding: float,
    *,
    lost: Tensor | None = None,
    biased: bool = False,
    patience: int = 100,
) -> ExactFit:
    """Recover all kernels of one group as the paper does, and certify each.

    ũ_j = argmin_u ‖Θ_j − W_j(0) − A u‖₁,  W̃_j = W_j(0) + A ũ_j, with A an orthonormal basis of the span.

    Entries known to be lost are left out of the fit and are no evidence for it, nor are zeros where the anchor is zero
    or unknown: a kernel of which hardly anything else is met stays as it is. So do biases that are off in nearly all
    kernels, as those trained at a rate of their own are.

    Args:
        span: Of the layer's clean patches.
        suspect: Θ, shape (kernels, fan_in), float32 or float64.
        anchor: W(0), same shape.
        rounding: Relative size of rounding in the weights, below which a residual counts as zero.
        lost: Entries hit beyond doubt, whatever they were filled with, same shape, bool; None for none.
        biased: Whether the last entry of each kernel is its bias.
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
    lost = torch.zeros_like(suspect, dtype=torch.bool) if lost is None else lost
    update = (suspect.double() - anchor.double()).masked_fill(lost, 0.0).T
    weights = weights_without(lost)
    solution = lad(span.directions, update, rounding=rounding, weights=weights, max_iterations=patience)
    solution = without_lost(solution, lost)
    idle = idle_kernels(solution, suspect, anchor, lit(span))
    hits = (solution.residuals.T != 0) & ~idle[:, None] | lost
    odd = biased and odd_biases(hits[~idle])
    unproved = idle | hits[:, -1] if odd else idle
    if odd:
        hits[:, -1] &= lost[:, -1]
    again = refit(span.directions, update, solution)
    recovered = (anchor.double() + again.fitted.T).to(suspect.dtype)
    beyond_chance = again.confirmed & (_chance(span, update, solution, rounding) < _BELIEVABLE)
    return ExactFit(
        kernels=torch.where(hits, recovered, suspect),
        hits=hits,
        certified=solution.certified & beyond_chance & ~unproved & (0 < span.rank < len(span.directions)),
        gap=solution.gap,
        margin=solution.margin,
        rank=solution.rank,
        idle=idle,
        odd=odd,
    )


def _chance(span: Span, update: Tensor, solution: Solution, rounding: float) -> Tensor:
    """Probability of as many zero residuals beyond the rank if no residual were truly zero, shape (kernels,).

    Any l1 fit interpolates `rank` rows. Each other residual lies below its rounding level by accident, as often as
    the density of residuals near zero says, here bounded by level / lower quartile; the count is Poisson.
    """
    reach, rows = torch.linalg.vector_norm(span.directions, dim=1, keepdim=True), lit(span)
    if not bool(rows.any()):
        return torch.ones(update.shape[1], dtype=torch.float64, device=update.device)
    reach, update, residuals = reach[rows], update[rows], solution.residuals[rows]
    zeros = (residuals == 0).sum(0)
    level = rounding * (update.abs() + reach * torch.linalg.vector_norm(solution.coefficients, dim=0))
    sizes = residuals.abs().masked_fill(residuals == 0, torch.inf).sort(dim=0).values
    # Infinite where there is no residual at all: nothing is left to chance.
    quartile = sizes.gather(0, ((len(update) - zeros)[None] // 4))[0]
    by_accident = (len(update) - solution.rank) * level.mean(0) / quartile
    beyond = (zeros - solution.rank).clamp_min(0).double()
    answer: Tensor = torch.special.gammainc(beyond, by_accident)
    return torch.where(beyond > 0, answer, 1.0)


def lit(span: Span) -> Tensor:
    """Rows that the span reaches, shape (fan_in,): others (pixels that are always black) are no evidence of a fit.

    >>> lit(Span(torch.tensor([[1.0], [0.0]]), torch.ones(1))).tolist()
    [True, False]
    """
    reached: Tensor = torch.linalg.vector_norm(span.directions, dim=1) > _UNREACHED
    return reached
