"""Square equations Q_V c = b of many vertices in single precision: by LU factors, or by old ones with rows exchanged.

Where q rows of V leave and others enter, the matrix differs from the old one by a factor that is the identity but for
those q rows, so old factors and those of a q×q matrix solve for it: the product form of the inverse, Dantzig &
Orchard-Hays, The product form for the inverse in the simplex method (1954).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from depurate.solver._factors import lu_factors

# With a smaller pivot in single precision the rows may not have full rank.
_PIVOT = 1e-5


class Equations(Protocol):
    """Solves with the square matrices of many vertices, in the precision of their factors."""

    def take(self, chosen: Tensor | slice) -> Equations:
        """Pick the given problems."""
        ...

    def single(self, right: Tensor, *, adjoint: bool) -> Tensor:
        """Solve Q_V x = b or Q_Vᵀ x = b for b of shape (p, k)."""
        ...


def solve(equations: Equations, right: Tensor, *, adjoint: bool = False) -> Tensor:
    """Solve for right sides in double precision and of any size, shape (p, k), with the error of single precision."""
    size = right.abs().amax(1, keepdim=True).clamp_min_(torch.finfo(right.dtype).tiny)
    return equations.single((right / size).float(), adjoint=adjoint).to(right.dtype).mul_(size)


@dataclass(frozen=True)
class Factored:
    """Equations by LU factors.

    Attributes:
        factors: LU factors in single precision of Q_Vᵀ, shape (p, k, k): rows are gathered, and LAPACK wants columns.
        swaps: Their row exchanges.
        full: Whether the pivots show full rank, shape (p,).
    """

    factors: Tensor
    swaps: Tensor
    full: Tensor

    def take(self, chosen: Tensor | slice) -> Factored:
        """Pick the given problems."""
        return Factored(self.factors[chosen], self.swaps[chosen], self.full[chosen])

    def single(self, right: Tensor, *, adjoint: bool) -> Tensor:
        """Solve Q_V x = b or Q_Vᵀ x = b for b of shape (p, k)."""
        found: Tensor = torch.linalg.lu_solve(
            self.factors, self.swaps, right[:, :, None], adjoint=not adjoint
        )
        return found[:, :, 0]

    def columns(self, place: Tensor) -> Tensor:
        """Compute columns of the inverses, shape (p, k, m) for places of shape (p, m)."""
        count, size = self.swaps.shape
        unit = self.factors.new_zeros(count, size, place.shape[1]).scatter_(1, place[:, None], 1.0)
        found: Tensor = torch.linalg.lu_solve(self.factors, self.swaps, unit, adjoint=True)
        return found


def factor(basis: Tensor, rows: Tensor) -> Factored:
    """Factor the equations of vertices through the given rows, shape (p, k), of a basis in single precision."""
    count, size = rows.shape
    square = basis.index_select(0, rows.flatten()).view(count, size, size)
    factors, swaps, info = lu_factors(square.mT)
    full = (info == 0) & (factors.diagonal(dim1=1, dim2=2).abs().amin(1) > _PIVOT)
    return Factored(factors, swaps, full)


@dataclass(frozen=True)
class Exchanged:
    """Equations of vertices some of whose rows were exchanged for others, q of them.

    Attributes:
        old: Those of the vertices before.
        place: Positions of the rows that left, shape (p, q).
        entering: The rows of the basis that took their places, shape (p, q, k).
        columns: The old inverse's columns at those positions, shape (p, k, q).
        core: LU factors of the entering rows times these columns, shape (p, q, q).
        swaps: Their row exchanges.
        full: Whether all pivots show full rank, shape (p,).
    """

    old: Factored
    place: Tensor
    entering: Tensor
    columns: Tensor
    core: Tensor
    swaps: Tensor
    full: Tensor

    def take(self, chosen: Tensor | slice) -> Exchanged:
        """Pick the given problems."""
        return Exchanged(
            self.old.take(chosen),
            self.place[chosen],
            self.entering[chosen],
            self.columns[chosen],
            self.core[chosen],
            self.swaps[chosen],
            self.full[chosen],
        )

    def single(self, right: Tensor, *, adjoint: bool) -> Tensor:
        """Solve Q_V x = b or Q_Vᵀ x = b for b of shape (p, k)."""
        if adjoint:
            inner = torch.linalg.lu_solve(
                self.core, self.swaps, self.columns.mT @ right[:, :, None], adjoint=True
            )
            others = torch.baddbmm(right[:, :, None], self.entering.mT, inner, alpha=-1)[:, :, 0]
            return self.old.single(others, adjoint=True).scatter_(1, self.place, inner[:, :, 0])
        first = self.old.single(right.scatter(1, self.place, 0.0), adjoint=False)[:, :, None]
        short = torch.baddbmm(right.gather(1, self.place)[:, :, None], self.entering, first, alpha=-1)
        inner = torch.linalg.lu_solve(self.core, self.swaps, short)
        return torch.baddbmm(first, self.columns, inner)[:, :, 0]


def exchange(old: Factored, basis: Tensor, place: Tensor, rows: Tensor, columns: Tensor) -> Exchanged:
    """Exchange rows of vertices.

    Args:
        old: Their equations before.
        basis: In single precision.
        place: Positions of the rows that leave, shape (p, q).
        rows: The rows that take their places, shape (p, q).
        columns: The old inverse's columns at those positions, shape (p, k, q).
    """
    entering = basis.index_select(0, rows.flatten()).view(*rows.shape, -1)
    core, swaps, info = lu_factors(entering @ columns)
    full = old.full & (info == 0) & (core.diagonal(dim1=1, dim2=2).abs().amin(1) > _PIVOT)
    return Exchanged(old, place, entering, columns, core, swaps, full)
