"""The race to the support: least squares on ever fewer rows, in single precision, for many targets at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._masks import below

# Targets are cut at this many medians before the first fit, so that a few huge entries cannot spoil it.
_CUT = 3.0
# Entries of a target that its median is taken from.
_SAMPLE = 256
# A threshold this small against the fit is near the end of single precision.
_SINGLE = 1e-4


@dataclass(frozen=True)
class Pace:
    """How a race is run.

    Attributes:
        keep: Threshold in units of the mean residual of the rows kept.
        steps: Steps of conjugate gradients between two choices of the rows.
        limit: Steps at most.
    """

    keep: float
    steps: int
    limit: int


@dataclass(frozen=True)
class Runners:
    """Where a race ended, one entry a target.

    Attributes:
        coefficients: Shape (p, k).
        threshold: Residuals above this were left out at the end, shape (p, 1).
        kept: Rows kept at the end, shape (p,).
        arrived: The threshold fell to the end of single precision with more rows kept than coefficients.
    """

    coefficients: Tensor
    threshold: Tensor
    kept: Tensor
    arrived: Tensor

    def put(self, rows: Tensor, other: Runners) -> None:
        """Store where the given targets ended."""
        self.coefficients[rows] = other.coefficients.to(self.coefficients.dtype)
        self.threshold[rows] = other.threshold
        self.kept[rows] = other.kept
        self.arrived[rows] = other.arrived


@dataclass(frozen=True)
class _State:
    """The targets still running; `image` is the direction in the space of the rows."""

    rows: Tensor
    solution: Tensor
    residuals: Tensor
    threshold: Tensor
    kept: Tensor
    gradient: Tensor
    direction: Tensor

    def take(self, chosen: Tensor) -> _State:
        return _State(
            self.rows[chosen],
            self.solution[chosen],
            self.residuals[chosen],
            self.threshold[chosen],
            self.kept[chosen],
            self.gradient[chosen],
            self.direction[chosen],
        )


def race(targets: Tensor, basis: Tensor, pace: Pace) -> Runners:
    """Fit each target on the rows that its noise seems to have spared.

    Every few steps the rows are chosen whose residual is below a multiple of their mean; every step moves along a
    direction of conjugate gradients (Polak and Ribière's, which survive a change of the rows) for least squares on
    them, at two products with the basis.

    Args:
        targets: Shape (p, d), in the dtype of the basis.
        basis: Q, shape (d, k).
        pace: Thresholds and steps.
    """
    count, rank = basis.shape
    state = _start(targets, basis, pace)
    ended = Runners(
        state.solution.clone(),
        state.threshold.clone(),
        torch.zeros_like(state.rows),
        torch.zeros_like(state.rows, dtype=torch.bool),
    )
    for step in range(pace.limit):
        state = _step(state, basis, choose=step % pace.steps == 0)
        if (step + 1) % pace.steps:
            continue
        number = state.kept.sum(1, keepdim=True)
        spared = (state.kept * state.residuals).abs_().sum(1, keepdim=True)
        state.threshold.copy_(pace.keep * spared / number.clamp_min(1))
        fit = torch.linalg.vector_norm(state.solution, dim=1, keepdim=True) / count**0.5
        enough = (number > rank)[:, 0]
        home = (state.threshold <= _SINGLE * fit)[:, 0]
        leave = home | ~enough
        stop = leave.nonzero()[:, 0]
        if stop.numel():
            part = Runners(
                state.solution[stop], state.threshold[stop], number[stop, 0].long(), (home & enough)[stop]
            )
            ended.put(state.rows[stop], part)
            state = state.take((~leave).nonzero()[:, 0])
        if not state.rows.numel():
            break
    return ended


def _start(targets: Tensor, basis: Tensor, pace: Pace) -> _State:
    """Fit the targets, cut at a multiple of their median, on all rows."""
    sample = targets[:, :: max(1, basis.shape[0] // _SAMPLE)]
    bound = _CUT * sample.abs().median(1, keepdim=True).values
    bound = torch.where(bound > 0, bound, torch.inf)
    solution = torch.minimum(torch.maximum(targets, -bound), bound) @ basis
    residuals = torch.addmm(targets, solution, basis.T, alpha=-1)
    threshold = pace.keep * torch.minimum(residuals.abs(), bound).mean(1, keepdim=True)
    rows = torch.arange(targets.shape[0], device=targets.device)
    nothing = torch.zeros_like(solution)
    return _State(rows, solution, residuals, threshold, residuals, nothing, nothing)


def _step(state: _State, basis: Tensor, *, choose: bool) -> _State:
    """Move along the next direction, on rows chosen anew if `choose`."""
    tiny = torch.finfo(basis.dtype).tiny
    kept = below(state.residuals.abs(), state.threshold) if choose else state.kept
    gradient = (kept * state.residuals) @ basis
    turn = (gradient * (gradient - state.gradient)).sum(1, keepdim=True).clamp_min_(0)
    turn /= state.gradient.square().sum(1, keepdim=True).clamp_min_(tiny)
    direction = torch.addcmul(gradient, turn, state.direction)
    image = direction @ basis.T
    power = torch.linalg.vector_norm(kept * image, dim=1, keepdim=True).square_()
    length = (gradient * direction).sum(1, keepdim=True) / power.clamp_min_(tiny)
    return _State(
        state.rows,
        torch.addcmul(state.solution, length, direction),
        state.residuals.addcmul_(length, image, value=-1),
        state.threshold,
        kept,
        gradient,
        direction,
    )
