"""Weighted Gram matrices of one shared basis, for many weight vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor

# Below this many numbers the table of outer products q_i q_iᵀ is worth its memory: one GEMM then serves
# all weights.
_TABLE_LIMIT = 4_000_000
# Columns of one block of the lower triangle; below that the symmetric half costs more to skip than to compute.
_BLOCK = 96
# Numbers that one batched product on an accelerator may hold at a time.
_BATCH_LIMIT = 1 << 28


def gram_table(basis: Tensor) -> Tensor | None:
    """Lower triangles of all q_i q_iᵀ, shape (d, k(k+1)/2), or None where it would be too large."""
    rows, rank = basis.shape
    if rows * rank * (rank + 1) // 2 > _TABLE_LIMIT:
        return None
    first, second = torch.tril_indices(rank, rank, device=basis.device)
    return basis[:, first] * basis[:, second]


def weighted_gram(basis: Tensor, weights: Tensor, table: Tensor | None = None) -> Tensor:
    """Qᵀ diag(w) Q for every row w of `weights` (p, d): shape (p, k, k). With `table`, one GEMM for all.

    Without a table only the lower triangles are sure to be filled in.
    """
    rank = basis.shape[1]
    if table is not None:
        first, second = torch.tril_indices(rank, rank, device=basis.device)
        packed = weights @ table
        full = packed.new_empty(weights.shape[0], rank, rank)
        full[:, first, second] = packed
        full[:, second, first] = packed
        return full
    if basis.device.type != "cpu":
        chunk = max(1, _BATCH_LIMIT // basis.numel())
        return torch.cat([(basis.T * part[:, None, :]) @ basis for part in torch.split(weights, chunk)])
    full = basis.new_zeros(weights.shape[0], rank, rank)
    for index, weight in enumerate(weights):
        _weigh(basis, weight, full[index])
    return full


def lower_gram(basis: Tensor) -> Tensor:
    """Compute BᵀB, of which only the lower triangle is sure to be filled in."""
    gram = basis.new_zeros(basis.shape[1], basis.shape[1])
    _fill_lower(basis.T, basis, gram)
    return gram


def _weigh(basis: Tensor, weight: Tensor, out: Tensor) -> None:
    """Fill the block lower triangle of Qᵀ diag(w) Q from the rows that have any weight."""
    rows = weight.nonzero()[:, 0]
    if rows.numel() < 0.8 * weight.numel():
        basis, weight = basis[rows], weight[rows]
    _fill_lower((basis * weight[:, None]).T, basis, out)


def _fill_lower(left: Tensor, right: Tensor, out: Tensor) -> None:
    for start in range(0, out.shape[0], _BLOCK):
        stop = min(start + _BLOCK, out.shape[0])
        torch.mm(left[start:stop], right[:, :stop], out=out[start:stop, :stop])
