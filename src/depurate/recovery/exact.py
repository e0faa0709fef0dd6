"""Exact recovery: least absolute deviations on the hard span of clean patches, certified kernel by kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.recovery.evidence import idle_kernels, odd_biases, weights_without, without_lost
from depurate.recovery.levels import UNREACHED, Rounding, as_rounding, solve_levelled
from depurate.recovery.refit import refit
from depurate.solver import Solution
from depurate.spans import Span

# A fit is no accident when chance makes as many zero residuals less often than this.
BELIEVABLE = 1e-6
# Of weights stored so coarsely, relative to their updates, those that moved by little look as if they had not.
_COARSE = 1e-2
# So many levels above the level the density of residuals is looked at.
_ABOVE = 3


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
        moved: Kernels of which something that is met is not zero, same shape.
        odd: Kernels whose biases were left as they are, as nearly all were off, same shape.
    """

    kernels: Tensor
    hits: Tensor
    certified: Tensor
    gap: Tensor
    margin: Tensor
    rank: int
    idle: Tensor
    moved: Tensor
    odd: Tensor


def exact_recovery(
    span: Span,
    suspect: Tensor,
    anchor: Tensor,
    rounding: float | Rounding,
    *,
    lost: Tensor | None = None,
    patience: int = 100,
) -> ExactFit:
    """Recover all kernels of one group as the paper does, and certify each.

    ũ_j = argmin_u ‖Θ_j − W_j(0) − A u‖₁,  W̃_j = W_j(0) + A ũ_j, with A an orthonormal basis of the span.

    Entries known to be lost are left out of the fit and are no evidence for it, nor are zeros where the anchor is zero
    or unknown: a kernel of which hardly anything else is met stays as it is.

    Args:
        span: Of the layer's clean patches.
        suspect: Θ, shape (kernels, fan_in), float32 or float64.
        anchor: W(0), same shape.
        rounding: Of the weights, below which a residual counts as zero; a number is relative to the update.
        lost: Entries hit beyond doubt, whatever they were filled with, same shape, bool; None for none.
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
    # What no patch reaches is exactly zero, or rounding of the basis would be all that the fit says of it.
    reach = torch.linalg.vector_norm(span.directions, dim=1)
    unreached = reach <= UNREACHED
    span = replace(span, directions=span.directions.masked_fill(unreached[:, None], 0.0))
    levelled = solve_levelled(
        span.directions,
        update,
        anchor.double().T,
        as_rounding(rounding, suspect.dtype),
        patience=patience,
        weights=weights_without(lost),
        reach=reach.masked_fill(unreached, 0.0),
    )
    solution = without_lost(levelled.solution, lost)
    levelled = replace(levelled, solution=solution)
    idle = idle_kernels(solution, suspect, anchor, ~unreached)
    hits = (solution.residuals.T != 0) & ~idle[:, None] | lost
    moved = ((update != 0) & (solution.residuals == 0) & ~unreached[:, None]).any(0)
    again = refit(span.directions, update, solution)
    recovered = (anchor.double() + again.fitted.T).to(suspect.dtype)
    beyond_chance = again.confirmed & (chance(unreached, solution, levelled.level) < BELIEVABLE)
    return ExactFit(
        kernels=torch.where(hits, recovered, suspect),
        hits=hits,
        certified=solution.certified
        & beyond_chance
        & ~idle
        & (moved | ~hits.any(1) | (levelled.coarsest < _COARSE))
        & levelled.within(update, again.fitted, again.grown)
        & (0 < span.rank < len(span.directions)),
        gap=solution.gap,
        margin=solution.margin,
        rank=solution.rank,
        idle=idle,
        moved=moved,
        odd=torch.zeros_like(idle),
    )


def with_odd_biases(fits: Sequence[ExactFit], suspect: Tensor, lost: Tensor) -> tuple[ExactFit, ...]:
    """Leave biases as they are where nearly all of a layer's are off, and certify none of their kernels.

    Args:
        fits: One per group.
        suspect: Shape (groups, kernels, fan_in), the bias last.
        lost: Same shape, bool.
    """
    off = torch.stack([fit.hits for fit in fits])
    moved, idle = (torch.stack([getattr(fit, name) for fit in fits]) for name in ("moved", "idle"))
    others = (off & ~lost)[..., :-1][~idle]
    odd = odd_biases(
        off[..., -1], moved, ~lost[..., -1] & ~idle, float(others.double().mean().nan_to_num(0.0))
    )
    kept = torch.zeros_like(off)
    kept[..., -1] = odd
    return tuple(
        replace(
            fit,
            kernels=torch.where(stays, received, fit.kernels),
            hits=fit.hits & ~stays,
            certified=fit.certified & ~which,
            odd=which,
        )
        for fit, stays, received, which in zip(fits, kept, suspect, odd, strict=True)
    )


def chance(unreached: Tensor, solution: Solution, level: Tensor) -> Tensor:
    """Probability of as many zero residuals beyond the rank if no residual were truly zero, shape (kernels,).

    Any l1 fit interpolates `rank` rows. Each other residual lies below its rounding level by accident, as often as
    the density of residuals near zero says, here bounded by level / lower quartile and by how many lie right above
    the level, as they do where rounding is more than was thought; the count is Poisson.

    Args:
        unreached: Rows that the span does not reach, shape (fan_in,), bool.
        solution: Of all kernels.
        level: Size below which a residual counted as zero, shape (fan_in, kernels).

    Returns:
        The probability of each kernel.
    """
    # What the span does not reach (pixels that are always black) is fitted by nothing, and is no evidence.
    residuals, level = solution.residuals[~unreached], level[~unreached]
    if not len(residuals):
        return torch.ones_like(solution.gap)
    zeros = (residuals == 0).sum(0)
    sizes = residuals.abs().masked_fill(residuals == 0, torch.inf).sort(dim=0).values
    # Infinite where there is no residual at all: nothing is left to chance.
    quartile = sizes.gather(0, sizes.isfinite().sum(0, keepdim=True) // 4)[0]
    # A huge entry has a level as huge, and can be zero by accident but once.
    by_accident = (len(residuals) - solution.rank) * (level / quartile).clamp_max(1).mean(0)
    above = (residuals != 0) & (residuals.abs() <= (1 + _ABOVE) * level)
    by_accident = torch.maximum(by_accident, above.sum(0) / _ABOVE)
    beyond = (zeros - solution.rank).clamp_min(0).double()
    answer: Tensor = torch.special.gammainc(beyond, by_accident)
    return torch.where(beyond > 0, answer, 1.0)
