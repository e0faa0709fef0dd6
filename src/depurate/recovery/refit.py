"""The rows a fit meets exactly: solved once more to full precision, and judged as evidence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver import Solution

# A row of leverage h is confirmed by the others to rounding / (1 − h).
_LEVERAGE = 0.999
# Fitted rows of an orthonormal basis count as not of full rank where Σ 1/λ of their Gram matrix passes this: the last
# pivot alone may be rounding behind a small one before it.
_SINGULAR = 1e12
# Numbers in one block of fitted rows.
_BLOCK = 20_000_000


@dataclass(frozen=True, eq=False)
class Refit:
    """What the rows of zero residual say, one entry a target.

    Attributes:
        fitted: A u, shape (d, p), with u solved from the rows of zero residual alone, to rounding of the fit itself
            however large the noise on the other rows; the solution's own where those rows are not of full rank.
        confirmed: Shape (p,), bool: every row of zero residual is confirmed by the others.
        grown: √Σ h_i over the rows that are not met, shape (p,): how much larger errors of the rows met become there,
            one row's to all of them; zero where nothing was solved.
    """

    fitted: Tensor
    confirmed: Tensor
    grown: Tensor


def refit(design: Tensor, targets: Tensor, solution: Solution) -> Refit:
    """Solve the rows of zero residual again and tell which targets they determine beyond chance.

    Let Z be the rows of zero residual. With noise drawn independently from a law without atoms, z_Z lies in col(A_Z)
    with positive probability only if z_i ≠ 0 at some i with e_i ∈ col(A_Z), which is leverage 1:
    h_i = a_iᵀ (A_Zᵀ A_Z)⁻¹ a_i. So full rank and max_Z h_i < 1 prove that no row of Z was hit, almost surely, and the
    fit is the clean one. It implies |Z| > rank, which alone is not enough: rows where the design is zero are
    always fitted (a dead unit, a pixel that is always black) and tell nothing of the coefficients.

    Args:
        design: A, shape (d, r).
        targets: Y, shape (d, p), as given to `lad`.
        solution: What `lad` found.

    Returns:
        The fit and the judgement. It says nothing of optimality; combine it with `solution.certified`.

    >>> import torch
    >>> from depurate.solver import lad
    >>> design = torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0]]).double()
    >>> targets = torch.tensor([[2.0, 1.0], [2.0, 2.0], [9.0, 3.0], [0.0, 0.0], [0.0, 0.0]]).double()
    >>> solution = lad(design, targets)
    >>> (solution.zeros > solution.rank).tolist(), refit(design, targets, solution).confirmed.tolist()
    ([True, True], [True, False])
    """
    zero, sought = (solution.residuals == 0).T, targets.T.to(torch.float64)
    confirmed, fitted = solution.zeros > solution.rank, solution.fitted.T.to(torch.float64)
    grown = torch.zeros_like(sought[:, 0])
    if solution.rank == 0 or not bool(confirmed.any()):
        return Refit(solution.fitted, confirmed, grown)
    basis = torch.linalg.svd(design.to(torch.float64), full_matrices=False)[0][:, : solution.rank]
    for rows in torch.split(confirmed.nonzero()[:, 0], max(1, _BLOCK // basis.numel())):
        fit, leverage, grown[rows], sound = _solve_rows(basis, zero[rows], sought[rows])
        fitted[rows] = torch.where(sound[:, None], fit, fitted[rows])
        confirmed[rows] = sound & (leverage < _LEVERAGE)
    return Refit(fitted.T.to(targets.dtype), confirmed, grown)


def _solve_rows(basis: Tensor, zero: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least squares on the rows Z: Q c (p, d), max_Z h_i and √Σ h_i beside Z (p,), whether Q_Z has full rank (p,)."""
    masked = zero[:, :, None] * basis
    factor, info = torch.linalg.cholesky_ex(masked.mT @ masked)
    sound = info == 0
    # The factor of a singular Gram matrix is not used, but must be one that can be inverted along.
    unit = torch.eye(basis.shape[1]).to(factor)
    inverse = torch.cholesky_inverse(torch.where(sound[:, None, None], factor, unit))
    sound &= inverse.diagonal(dim1=1, dim2=2).sum(1) < _SINGULAR
    reach = ((basis @ inverse) * basis).sum(2).clamp_min(0)
    leverage, grown = torch.where(zero, reach, 0.0).amax(1), torch.where(zero, 0.0, reach).sum(1).sqrt()
    coefficients = targets.new_zeros(len(targets), basis.shape[1])
    for _ in range(3):  # the first is the solution, the others take away its rounding
        residuals = torch.where(zero, targets - coefficients @ basis.T, 0.0)
        coefficients = coefficients + ((residuals @ basis)[:, None] @ inverse)[:, 0]
    return coefficients @ basis.T, leverage, grown, sound
