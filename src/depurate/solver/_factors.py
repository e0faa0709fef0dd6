"""LU factors and inverses of batches of matrices, right whatever number of threads torch uses."""

from __future__ import annotations

import torch
from torch import Tensor


def lu_factors(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factor each matrix as P L U.

    With several threads torch hands matrices of a batch to LAPACK at the same time, and with torch 2.15 and MKL the
    factors of matrices of 160 rows and more came out wrong. A single matrix is factored rightly, so there each goes
    alone; with one thread, and on other devices, the batch goes as a whole.

    Args:
        square: Shape (p, r, r).

    Returns:
        The factors, the row interchanges and LAPACK's info, as of `torch.linalg.lu_factor_ex`.
    """
    if _whole(square):
        factors, swaps, info = torch.linalg.lu_factor_ex(square)
        return factors, swaps, info
    alone = [torch.linalg.lu_factor_ex(matrix) for matrix in square]
    return (
        torch.stack([each.LU for each in alone]),
        torch.stack([each.pivots for each in alone]),
        torch.stack([each.info for each in alone]),
    )


def inverses(square: Tensor) -> tuple[Tensor, Tensor]:
    """Invert each matrix of shape (p, r, r); give LAPACK's info beside, as `torch.linalg.inv_ex` does."""
    if _whole(square):
        inverse, info = torch.linalg.inv_ex(square)
        return inverse, info
    alone = [torch.linalg.inv_ex(matrix) for matrix in square]
    return torch.stack([each.inverse for each in alone]), torch.stack([each.info for each in alone])


def _whole(square: Tensor) -> bool:
    return square.device.type != "cpu" or len(square) < 2 or torch.get_num_threads() == 1
