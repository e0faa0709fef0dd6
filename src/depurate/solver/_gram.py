"""Weighted Gram matrices of one shared basis, for many weight vectors at once."""

from __future__ import annotations

import torch
from torch import Tensor

# Below this many numbers the table of outer products q_i q_iᵀ is worth its memory: one GEMM then serves
# all weights.
_TABLE_LIMIT = 4_000_000


def gram_table(basis: Tensor) -> Tensor | None:
    """Lower triangles of all q_i q_iᵀ, shape (d, k(k+1)/2), or None where it would be too large."""
    rows, rank = basis.shape
    if rows * rank * (rank + 1) // 2 > _TABLE_LIMIT:
        return None
    first, second = torch.tril_indices(rank, rank, device=basis.device)
    return basis[:, first] * basis[:, second]


def weighted_gram(basis: Tensor, weights: Tensor, table: Tensor | None = None) -> Tensor:
    """Qᵀ diag(w) Q for every row w of `weights` (p, d): shape (p, k, k). With `table`, one GEMM for all."""
    rank = basis.shape[1]
    if table is not None:
        first, second = torch.tril_indices(rank, rank, device=basis.device)
        packed = weights @ table
        full = packed.new_empty(weights.shape[0], rank, rank)
        full[:, first, second] = packed
        full[:, second, first] = packed
        return full
    full = basis.new_empty(weights.shape[0], rank, rank)
    for index, weight in enumerate(weights):
        torch.mm((basis * weight[:, None]).T, basis, out=full[index])
    return full
