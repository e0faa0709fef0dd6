"""Whether an exact fit is evidence: every fitted row must be confirmed by the others."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver import Solution

# A row of leverage h is confirmed by the others to rounding / (1 − h).
_LEVERAGE = 0.999
# Below this pivot fitted rows of an orthonormal basis count as not of full rank.
_PIVOT = 1e-6
# Numbers in one block of solved right-hand sides.
_BLOCK = 20_000_000


def confirmed(design: Tensor, solution: Solution) -> Tensor:
    """Tell which targets are fitted exactly on rows that confirm one another, so that none of them is noise.

    Let Z be the rows of zero residual. With noise drawn independently from a law without atoms, z_Z lies in col(A_Z)
    with positive probability only if z_i ≠ 0 at some i with e_i ∈ col(A_Z), which is leverage 1:
    h_i = a_iᵀ (A_Zᵀ A_Z)⁻¹ a_i. So full rank and max_Z h_i < 1 prove that no row of Z was hit, almost surely, and the
    fit is the clean one. It implies |Z| > rank, which alone is not enough: rows where the design is zero are
    always fitted (a dead unit, a pixel that is always black) and tell nothing of the coefficients.

    Args:
        design: A, shape (d, r).
        solution: What `lad` found for p targets on it.

    Returns:
        Shape (p,), bool. It says nothing of optimality; combine it with `solution.certified`.

    >>> import torch
    >>> from depurate.solver import lad
    >>> design = torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0]]).double()
    >>> targets = torch.tensor([[2.0, 1.0], [2.0, 2.0], [9.0, 3.0], [0.0, 0.0], [0.0, 0.0]]).double()
    >>> solution = lad(design, targets)
    >>> (solution.zeros > solution.rank).tolist(), confirmed(design, solution).tolist()
    ([True, True], [True, False])
    """
    zero = (solution.residuals == 0).T
    left, values, _ = torch.linalg.svd(design.to(torch.float64), full_matrices=False)
    basis = left[:, : solution.rank]
    result = zero.sum(1) > solution.rank
    if values.numel() == 0 or solution.rank == 0:
        return result
    for rows in torch.split(result.nonzero()[:, 0], max(1, _BLOCK // basis.numel())):
        result[rows] = _largest_leverage(basis, zero[rows]) < _LEVERAGE
    return result


def _largest_leverage(basis: Tensor, zero: Tensor) -> Tensor:
    """max_Z q_iᵀ (Q_Zᵀ Q_Z)⁻¹ q_i for every row of `zero` (p, d); 1 where Q_Z is not of full rank."""
    masked = zero[:, :, None] * basis
    factor, info = torch.linalg.cholesky_ex(masked.mT @ masked)
    # The factor of a singular Gram matrix is not used, but must be invertible to be inverted along.
    sound = (info == 0) & (factor.diagonal(dim1=1, dim2=2).amin(1) > _PIVOT)
    inverse = torch.cholesky_inverse(
        torch.where(sound[:, None, None], factor, torch.eye(len(basis.T)).to(factor))
    )
    largest = ((masked @ inverse) * masked).sum(2).amax(1)
    return torch.where(sound, largest, 1.0)
