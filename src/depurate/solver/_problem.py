"""The problem every method solves: targets as rows over one orthonormal basis, with a box for the dual."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Problem:
    """min_c Σ_i upper_i max(e_i, 0) + lower_i max(−e_i, 0), e = y − Q c, for each row y of `targets`.

    Its dual is max yᵀz subject to Qᵀz = 0, −lower ≤ z ≤ upper. Plain least absolute deviations has both 1.

    Attributes:
        basis: Q, shape (d, k), orthonormal columns.
        targets: Shape (p, d): one problem a row, so that finished ones can be taken out cheaply.
        lower: Shape (1, 1) or (p, d), nonnegative.
        upper: Shape (1, 1) or (p, d), nonnegative.
        rounding: Relative size of the targets' own rounding errors; smaller residuals count as zero.
    """

    basis: Tensor
    targets: Tensor
    lower: Tensor
    upper: Tensor
    rounding: float

    def take(self, rows: Tensor) -> Problem:
        """Pick the given problems."""
        whole = self.lower.shape[0] == 1
        lower, upper = (self.lower, self.upper) if whole else (self.lower[rows], self.upper[rows])
        return Problem(self.basis, self.targets[rows], lower, upper, self.rounding)

    def residuals(self, coefficients: Tensor) -> Tensor:
        """Y − C Qᵀ for coefficients C of shape (p, k)."""
        return torch.addmm(self.targets, coefficients, self.basis.T, alpha=-1)

    def loss(self, residuals: Tensor) -> Tensor:
        """Compute the objective of each problem, shape (p,)."""
        return (self.upper * residuals.clamp_min(0) - self.lower * residuals.clamp_max(0)).sum(1)

    def signs(self, residuals: Tensor) -> Tensor:
        """Give the dual at nonzero residuals: upper where positive, −lower where negative, 0 at zero."""
        return torch.where(residuals > 0, self.upper, torch.where(residuals < 0, -self.lower, 0.0))

    def reach(self, dual: Tensor) -> Tensor:
        """Tell how far z goes into its box, 0 in the middle and 1 at a bound, shape (p, d)."""
        tiny = torch.finfo(dual.dtype).tiny
        return torch.maximum(dual / self.upper.clamp_min(tiny), -dual / self.lower.clamp_min(tiny))

    def zero_level(self, coefficients: Tensor) -> Tensor:
        """Give the size below which a residual is a rounding error, shape (p, d)."""
        rows, size = (
            torch.linalg.vector_norm(self.basis, dim=1),
            torch.linalg.vector_norm(coefficients, dim=1),
        )
        level = torch.addcmul(self.targets.abs(), size[:, None], rows)
        # The last term lets coefficients that should be zero count as such.
        return level.add_(1e-9 * self.targets.abs().amax(1, keepdim=True)).mul_(self.rounding)
