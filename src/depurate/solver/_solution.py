"""The result of `lad`: solutions, proofs and advice, one entry a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor


class Status(StrEnum):
    """What is known of one target's solution, with advice.

    >>> Status.INEXACT.advice
    'the gap is above the tolerance: raise max_iterations or tolerance, or drop columns that nearly depend on others'
    """

    CERTIFIED = "certified"
    OPTIMAL = "optimal"
    INEXACT = "inexact"

    @property
    def advice(self) -> str:
        """What the status means and what to do about it, in one sentence."""
        return {
            "certified": "optimal and unique: nothing to do",
            "optimal": "optimal, but not shown to be unique: other coefficients may fit as well",
            "inexact": "the gap is above the tolerance: raise max_iterations or tolerance, or drop columns that nearly "
            "depend on others",
        }[self.value]


def status_of(unique: Tensor, good: Sequence[bool]) -> tuple[Status, ...]:
    """Name what is known of every target from what is unique and whose gap is within tolerance."""
    return tuple(
        Status.CERTIFIED if certain else Status.OPTIMAL if well else Status.INEXACT
        for certain, well in zip(unique.tolist(), good, strict=True)
    )


@dataclass(frozen=True)
class Solution:
    """Least absolute deviations of p targets on one design, with the proof for each; one entry a target.

    For a one-dimensional target the trailing dimension p is absent from every tensor.

    Attributes:
        coefficients: U, shape (r, p). Where the design is rank deficient, one of many with the same fit; where it
            nearly is they are large, and A U computed from them misses `fitted` by rounding of that size.
        extra_coefficients: Coefficients of the targets' own columns, shape (q, p), or None without any.
        fitted: A U, shape (d, p); equal to the target, bit for bit, on rows of zero residual.
        residuals: Y − A U, shape (d, p); exactly 0.0 on the rows that the solution interpolates.
        dual: z, shape (d, p): Aᵀz = 0 and |z| ≤ 1, the proof of `gap`.
        objective: ‖y − A u‖₁, or what the options make of it, shape (p,); with `reweight`, of the weighted problem.
        gap: (objective − yᵀz) / objective, shape (p,): at most so far from the optimum, relatively.
        margin: max|z| over rows of zero residual, shape (p,); below 1 and of full rank, the fit is unique.
        unique: The fit is shown to be the only optimal one, shape (p,), bool.
        zeros: Rows of zero residual, shape (p,), int. More than `rank` is evidence of truly sparse noise.
        certified: Gap within tolerance and unique, shape (p,), bool.
        status: One `Status` a target; its `advice` says what to do.
        iterations: Steps spent on each target, shape (p,), int.
        weights: The weights of the last reweighting, shape (d, p), which gap and margin speak of; else None.
        rank: Numerical rank of the design.
        method: The method that ran.
        seconds: Wall time.
    """

    coefficients: Tensor
    extra_coefficients: Tensor | None
    fitted: Tensor
    residuals: Tensor
    dual: Tensor
    objective: Tensor
    gap: Tensor
    margin: Tensor
    unique: Tensor
    zeros: Tensor
    certified: Tensor
    status: tuple[Status, ...]
    iterations: Tensor
    weights: Tensor | None
    rank: int
    method: str
    seconds: float

    def with_some(self, chosen: Tensor, other: Solution) -> Solution:
        """Put the solutions of another call in the place of some of these, the times added up.

        Args:
            chosen: Which targets, shape (q,).
            other: Of just these targets.
        """
        tensors: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                tensors[entry.name] = value.index_copy(value.ndim - 1, chosen, getattr(other, entry.name))
        status = list(self.status)
        for place, state in zip(chosen.tolist(), other.status, strict=True):
            status[place] = state
        return replace(self, status=tuple(status), seconds=self.seconds + other.seconds, **tensors)

    def cast(self, dtype: torch.dtype, flat: bool, seconds: float) -> Solution:
        """Give the same solution in another dtype, one-dimensional if `flat`, with the time it took."""
        tensors: dict[str, Any] = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Tensor):
                value = value.to(dtype) if value.is_floating_point() else value
                tensors[entry.name] = value[..., 0] if flat else value
        return replace(self, seconds=seconds, **tensors)
