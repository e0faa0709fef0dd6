"""The equations of rows held out, bordered by a few rows more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._heldout import HeldOut, pad, places


@dataclass(frozen=True)
class Pinned:
    """Factored equations (I − Q_T Q_Tᵀ) w = b, T = S ∪ C, by way of those on S.

    Attributes:
        held: The equations on S.
        index: The rows of C, shape (p, c), filled up with d.
        border: −Q_C Q_Sᵀ, shape (p, c, s).
        reply: (I − Q_S Q_Sᵀ)⁻¹ times the border's transpose, shape (p, s, c).
        factor: Lower Cholesky factor of the Schur complement, shape (p, c, c).
    """

    held: HeldOut
    index: Tensor
    border: Tensor
    reply: Tensor
    factor: Tensor

    def within(self, right: Tensor) -> Tensor:
        """Solve for b and w of shape (p, d), w zero outside T."""
        padded = pad(right)
        first = self.held.inner(padded.gather(1, self.held.index)[:, :, None])
        rest = padded.gather(1, self.index)[:, :, None] - self.border @ first
        second = torch.cholesky_solve(rest, self.factor)
        first -= self.reply @ second
        padded.zero_().scatter_(1, self.held.index, first[:, :, 0])
        return padded.scatter_(1, self.index, second[:, :, 0])[:, :-1]


def pin(held: HeldOut, extra: Tensor) -> Pinned:
    """Take the marked rows (shape (p, d), none of them held) into the equations."""
    index = places(extra)
    count = extra.shape[1]
    absent = index == count
    rows = held.basis[index.clamp_max(count - 1)].masked_fill_(absent[:, :, None], 0.0)
    number, width = index.shape
    across = pad(-(rows @ held.basis.T).flatten(0, 1)).view(number, width, count + 1)
    border = across.gather(2, held.index[:, None].expand(-1, width, -1))
    corner = across.gather(2, index[:, None].expand(-1, width, -1))
    corner.diagonal(dim1=1, dim2=2).add_(1)
    reply = held.inner(border.mT.contiguous())
    factor = torch.linalg.cholesky_ex(corner - border @ reply).L
    return Pinned(held, index, border, reply, factor)
