"""The problem every method solves: targets as rows over one orthonormal basis, with a box for the dual."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.solver._gram import weighted_gram
from depurate.solver._masks import largest

# Coefficients count as this many times as long as the target at most: an optimum has none longer than twice the
# target's 1-norm where boxes are even, and a point that ran away must not find all residuals small beside itself.
_FAR = 1e4


@dataclass(frozen=True)
class Problem:
    """min_c Σ_i loss(e_i) + ½ cᵀ R c, e = y − B c, for each row y of `targets`.

    The loss is max over −lower ≤ z ≤ upper of e z − ½ s z²: upper·max(e, 0) − lower·min(e, 0) where the smoothing s
    is zero, Huber's function where it is not. B = Q, the basis all problems share, or [Q E], with columns E of the
    problem's own. The dual is max yᵀz − ½ s zᵀz − ½ cᵀRc subject to Bᵀz = R c, −lower ≤ z ≤ upper.

    Attributes:
        basis: Q, shape (d, k), orthonormal columns.
        lengths: Norms of the rows of Q, shape (d,).
        targets: Shape (p, d): one problem a row, so that finished ones can be taken out cheaply.
        lower: Shape (1, 1) or (p, d), nonnegative.
        upper: Shape (1, 1) or (p, d), nonnegative.
        rounding: Relative size of the targets' own rounding errors, shape (1, 1) or (p, 1); smaller residuals count as
            zero.
        own: Eᵀ, shape (p, q, d), orthonormal rows orthogonal to Q, or zero rows where nothing was left of them.
        smoothing: s, shape (p, 1) or (p, d), or None for zero.
        ridge: The diagonal of R, all there is of it, shape (p, k), or None for zero; without `own` columns.
    """

    basis: Tensor
    lengths: Tensor
    targets: Tensor
    lower: Tensor
    upper: Tensor
    rounding: Tensor
    own: Tensor | None = None
    smoothing: Tensor | None = None
    ridge: Tensor | None = None

    @property
    def size(self) -> int:
        """Number of coefficients of one problem."""
        return int(self.basis.shape[1]) + (0 if self.own is None else int(self.own.shape[1]))

    @property
    def ranks(self) -> Tensor:
        """Number of coefficients that each problem's columns can settle, shape (p,): own ones that are zero do not."""
        shared = self.targets.new_full((len(self.targets),), self.basis.shape[1], dtype=torch.int64)
        return shared if self.own is None else shared + (self.own != 0).any(2).sum(1)

    @property
    def linear(self) -> bool:
        """Whether this is a linear program: neither smoothed nor with a ridge."""
        return self.smoothing is None and self.ridge is None

    def take(self, rows: Tensor | slice) -> Problem:
        """Pick the given problems."""
        whole = self.lower.shape[0] == 1
        return replace(
            self,
            targets=self.targets[rows],
            lower=self.lower if whole else self.lower[rows],
            upper=self.upper if whole else self.upper[rows],
            rounding=self.rounding if self.rounding.shape[0] == 1 else self.rounding[rows],
            own=None if self.own is None else self.own[rows],
            smoothing=None if self.smoothing is None else self.smoothing[rows],
            ridge=None if self.ridge is None else self.ridge[rows],
        )

    def fit(self, coefficients: Tensor) -> Tensor:
        """Compute B c, shape (p, d)."""
        if self.own is None:
            return coefficients @ self.basis.T
        rank = self.basis.shape[1]
        shared = coefficients[:, :rank] @ self.basis.T
        return torch.baddbmm(shared[:, None], coefficients[:, None, rank:], self.own)[:, 0]

    def adjoint(self, rows: Tensor) -> Tensor:
        """Compute Bᵀ z for z of shape (p, d): shape (p, k) or (p, k + q)."""
        shared = rows @ self.basis
        if self.own is None:
            return shared
        return torch.cat([shared, (self.own @ rows[:, :, None])[:, :, 0]], 1)

    def residuals(self, coefficients: Tensor) -> Tensor:
        """Compute y − B c, shape (p, d)."""
        if self.own is None:
            return torch.addmm(self.targets, coefficients, self.basis.T, alpha=-1)
        return self.targets - self.fit(coefficients)

    def gram(self, weights: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the lower triangles of Bᵀ diag(w) B + R."""
        gram = weighted_gram(self.basis, weights, table)
        if self.ridge is not None:
            gram = gram + torch.diag_embed(self.ridge)
        if self.own is None:
            return gram
        weighted = self.own * weights[:, None, :]
        corner = weighted @ self.own.transpose(1, 2)
        # A column of its own that lies in the shared span has become zero: leave its coefficient at zero.
        corner = corner + torch.diag_embed((self.own == 0).all(2).to(corner.dtype))
        border = weighted @ self.basis
        return torch.cat([torch.cat([gram, border.transpose(1, 2)], 2), torch.cat([border, corner], 2)], 1)

    def pull(self, coefficients: Tensor) -> Tensor:
        """Compute R c, shape (p, k)."""
        if self.ridge is None:
            return torch.zeros_like(coefficients)
        return self.ridge * coefficients

    def losses(self, residuals: Tensor) -> Tensor:
        """Compute the loss of every residual, shape (p, d)."""
        if self.smoothing is None:
            return self.upper * residuals.clamp_min(0) - self.lower * residuals.clamp_max(0)
        best = self.slopes(residuals)
        return best * (residuals - 0.5 * self.smoothing * best)

    def objective(self, coefficients: Tensor, residuals: Tensor) -> Tensor:
        """Compute the objective of each problem, shape (p,)."""
        return self.losses(residuals).sum(1) + 0.5 * (coefficients * self.pull(coefficients)).sum(1)

    def signs(self, residuals: Tensor) -> Tensor:
        """Give the dual at nonzero residuals: upper where positive, −lower where negative, 0 at zero."""
        signs = residuals.sign()
        return (signs.clamp_min(0) * self.upper).addcmul_(signs.clamp_max(0), self.lower)

    def slopes(self, residuals: Tensor) -> Tensor:
        """Give the slope of the loss at every residual, 0 at zero, shape (p, d)."""
        if self.smoothing is None:
            return self.signs(residuals)
        return torch.minimum(torch.maximum(residuals / self.smoothing, -self.lower), self.upper)

    def reach(self, dual: Tensor) -> Tensor:
        """Tell how far z goes into its box, 0 in the middle and 1 at a bound, shape (p, d)."""
        tiny = torch.finfo(dual.dtype).tiny
        return torch.maximum(dual / self.upper.clamp_min(tiny), -dual / self.lower.clamp_min(tiny))

    def zero_level(self, coefficients: Tensor) -> Tensor:
        """Give the size below which a residual is a rounding error, shape (p, d)."""
        rank = self.basis.shape[1]
        size = torch.linalg.vector_norm(coefficients[:, :rank], dim=1)
        size = size.minimum(_FAR * torch.linalg.vector_norm(self.targets, dim=1))
        level = torch.addcmul(self.targets.abs(), size[:, None], self.lengths)
        if self.own is not None:
            level = level + (coefficients[:, rank:, None] * self.own).abs().sum(1)
        # The last term lets coefficients that should be zero count as such.
        return level.add_(1e-9 * largest(self.targets)[:, None]).mul_(self.rounding)
