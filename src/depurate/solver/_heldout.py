"""Least squares on all but a few rows, by way of the few.

With Q orthonormal and S the rows left out, (Q_ZᵀQ_Z)⁻¹ = I + Q_Sᵀ(I − Q_S Q_Sᵀ)⁻¹Q_S, so a factor as small as S
takes the place of one as large as the coefficients, and where it exists Q_Z has full rank.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Below this pivot of the Cholesky factor in single precision the rows kept are not taken to have full rank.
_PIVOT = 0.02
# The table I − QQᵀ may take this many bytes.
_TABLE_BYTES = 1 << 28
_PANEL = 512


@dataclass(frozen=True)
class HeldOut:
    """Factored equations (Q_ZᵀQ_Z) x = b of many targets, in single precision.

    Attributes:
        basis: Q in single precision, shape (d, k).
        index: Rows left out, shape (p, s), filled up with d.
        factor: Lower Cholesky factors of I − Q_S Q_Sᵀ, shape (p, s, s).
        full: Whether the rows kept are shown to have full rank, shape (p,).
    """

    basis: Tensor
    index: Tensor
    factor: Tensor
    full: Tensor

    def take(self, rows: Tensor) -> HeldOut:
        """Pick the given targets."""
        return HeldOut(self.basis, self.index[rows], self.factor[rows], self.full[rows])

    def marks(self, dtype: torch.dtype) -> Tensor:
        """Mark the rows left out by 1, shape (p, d)."""
        padded = self.basis.new_zeros(self.index.shape[0], self.basis.shape[0] + 1, dtype=dtype)
        return padded.scatter_(1, self.index, 1.0)[:, :-1].contiguous()

    def within(self, right: Tensor) -> Tensor:
        """Solve (I − Q_S Q_Sᵀ) w = b on S; b and w have shape (p, d), w is zero outside S."""
        padded = pad(right)
        inner = self.inner(padded.gather(1, self.index)[:, :, None])[:, :, 0]
        return padded.zero_().scatter_(1, self.index, inner)[:, :-1]

    def inner(self, right: Tensor) -> Tensor:
        """Solve (I − Q_S Q_Sᵀ) w = b for b of shape (p, s, n)."""
        half = torch.linalg.solve_triangular(self.factor, right, upper=False)
        solution: Tensor = torch.linalg.solve_triangular(self.factor.mT, half, upper=True)
        return solution

    def solve(self, right: Tensor) -> Tensor:
        """Solve (Q_ZᵀQ_Z) x = b for b of shape (p, k)."""
        return torch.addmm(right, self.within(right @ self.basis.T), self.basis)


def residual_projector(basis: Tensor, targets: int, held: int) -> Tensor | None:
    """Build the table I − QQᵀ, with a last row and column of zeros, where that is cheaper than going without.

    Args:
        basis: Q in single precision, shape (d, k).
        targets: Targets that will use the table.
        held: Rows that are left out of a typical one.
    """
    rows = basis.shape[0]
    if 2 * rows**2 > targets * held**2 or basis.element_size() * rows**2 > _TABLE_BYTES:
        return None
    table = basis.new_zeros(rows + 1, rows + 1)
    for start in range(0, rows, _PANEL):
        stop = min(start + _PANEL, rows)
        panel = torch.mm(basis[:stop], basis[start:stop].T).neg_()
        table[:stop, start:stop] = panel
        table[start:stop, :start] = panel[:start].T
    table.diagonal()[:-1].add_(1)
    return table


def hold_out(basis: Tensor, table: Tensor | None, held: Tensor) -> HeldOut:
    """Factor the equations that leave out the marked rows.

    Args:
        basis: Q in single precision, shape (d, k).
        table: From `residual_projector`, or None.
        held: Rows to leave out, shape (p, d), bool.
    """
    index = places(held)
    count, width = index.shape
    core = basis.new_empty(count, width, width)
    for row, out in zip(index, core, strict=True):
        if table is None:
            rows = basis[row.clamp_max(held.shape[1] - 1)]
            torch.mm(rows, rows.T, out=out)
        else:
            torch.index_select(table.index_select(0, row), 1, row, out=out)
    absent = (index == held.shape[1]).to(basis.dtype)
    if table is None:
        present = 1 - absent
        core.mul_(present[:, :, None]).mul_(present[:, None, :]).neg_()
        core.diagonal(dim1=1, dim2=2).add_(1)
    else:
        core.diagonal(dim1=1, dim2=2).add_(absent)
    # Given a place for its result, torch clears the other triangle at a third of the time of the factors themselves.
    factor, info = torch.linalg.cholesky_ex(core)
    return HeldOut(basis, index, factor, (info == 0) & (factor.diagonal(dim1=1, dim2=2).amin(1) > _PIVOT))


def pad(rows: Tensor) -> Tensor:
    """Add a column of zeros, which the index d of rows that are not there points at."""
    padded = rows.new_zeros(rows.shape[0], rows.shape[1] + 1)
    padded[:, :-1] = rows
    return padded


def places(marked: Tensor) -> Tensor:
    """List the columns of the marked entries of every row, shape (p, most), filled up with the number of columns."""
    count, columns = marked.shape
    number = marked.sum(1)
    where = marked.nonzero()
    index = torch.full((count, max(1, int(number.max()))), columns, device=marked.device)
    first = number.cumsum(0) - number
    index[where[:, 0], torch.arange(len(where), device=marked.device) - first[where[:, 0]]] = where[:, 1]
    return index
