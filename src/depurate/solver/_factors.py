"""Factors and inverses of batches of matrices, right whatever number of threads torch uses, and what they show."""

from __future__ import annotations

import torch
from torch import Tensor

# Matrices of norm one at most whose inverses are shorter than this are further from all singular ones than rounding.
_LONGEST = 1e6


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


def inverse_length(factor: Tensor, info: Tensor) -> Tensor:
    """Compute ‖L⁻¹‖ of Cholesky factors, Frobenius' norm; λ_min of G = LLᵀ is at least its square's inverse.

    Args:
        factor: L, shape (p, r, r), of numbers of any size where `info` is not zero.
        info: LAPACK's, shape (p,).

    Returns:
        Shape (p,); infinite where there is no factor.

    >>> inverse_length(*torch.linalg.cholesky_ex(torch.diag(torch.tensor([1.0, 0.25]))[None])).square().tolist()
    [5.0]
    """
    rows = (info == 0).nonzero()[:, 0]
    length = factor.new_full((len(factor),), torch.inf)
    unit = torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device)
    inverse = torch.linalg.solve_triangular(factor[rows], unit.expand(len(rows), -1, -1), upper=False)
    length[rows] = torch.linalg.vector_norm(inverse, dim=(1, 2)).nan_to_num(torch.inf, torch.inf)
    return length


def shows_full_rank(factor: Tensor, info: Tensor) -> Tensor:
    """Tell which Gram matrices G = LLᵀ of norm one at most are surely not singular, by λ_min ≥ ‖L⁻¹‖⁻².

    The last pivot does not say it: behind a small one before it, rounding leaves 1e-6 where nothing should be.

    Args:
        factor: L in double precision, shape (p, r, r), of numbers of any size where `info` is not zero.
        info: LAPACK's, shape (p,).

    Returns:
        Shape (p,), bool: λ_min > 1e-12, a hundred times what rounding moves it by.

    >>> gram = torch.diag(torch.tensor([1.0, 1e-8], dtype=torch.float64))[None]
    >>> shows_full_rank(*torch.linalg.cholesky_ex(gram)).tolist(), shows_full_rank(*torch.linalg.cholesky_ex(gram**2))
    ([True], tensor([False]))
    """
    return inverse_length(factor, info) < _LONGEST


def _whole(square: Tensor) -> bool:
    return square.device.type != "cpu" or len(square) < 2 or torch.get_num_threads() == 1
