"""An orthonormal basis of a design's column space, and the way back from it to coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.solver._gram import lower_gram

# A Gram matrix of unit columns whose Cholesky factor keeps its diagonal above this has condition number below
# about 1e4, so two rounds of Cholesky QR reach machine precision.
_SAFE_PIVOT = 1e-3
# Above this one round does.
_EASY_PIVOT = 0.4


@dataclass(frozen=True)
class Basis:
    """Columns Q (d×k, orthonormal) spanning the design A (d×r), and M (k×r) with A (Q c Mᵀ) = Q c for any c.

    Attributes:
        vectors: Q, shape (d, k).
        back: Mᵀ, shape (k, r): coefficients = c @ back for c of shape (p, k).
    """

    vectors: Tensor
    back: Tensor

    @property
    def rank(self) -> int:
        """Dimension k of the column space."""
        return int(self.vectors.shape[1])


def orthonormal_basis(design: Tensor) -> Basis:
    """Orthonormal basis of col(A) by Cholesky QR where A is well conditioned, else by the SVD.

    Columns are first scaled to size one by powers of two, which is exact, so columns of very different size
    do not hide one another.

    Args:
        design: A, shape (d, r), floating point, finite.
    """
    peak = design.abs().amax(0) if design.shape[0] else design.new_zeros(design.shape[1])
    exponent = torch.frexp(torch.where(peak > 0, peak, 1.0)).exponent
    scale = torch.ldexp(torch.ones_like(peak), exponent)
    scaled = design / scale
    basis = _cholesky_qr(scaled) or singular_basis(scaled)
    return Basis(basis.vectors, basis.back / scale)


def singular_basis(matrix: Tensor) -> Basis:
    """The left singular vectors of a design, unscaled: rows of `back` are orthogonal, and coefficients of least norm.

    Args:
        matrix: A, shape (d, r), floating point, finite.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    if values.numel() == 0 or float(values[0]) == 0:
        return Basis(matrix.new_zeros(matrix.shape[0], 0), matrix.new_zeros(0, matrix.shape[1]))
    floor = max(matrix.shape) * torch.finfo(matrix.dtype).eps * values[0]
    rank = int((values > floor).sum())
    return Basis(left[:, :rank].contiguous(), right[:rank] / values[:rank, None])


def _cholesky_qr(matrix: Tensor) -> Basis | None:
    rows, columns = matrix.shape
    if columns == 0 or columns > rows:
        return None
    vectors, back = matrix, None
    for _ in range(2):
        gram = lower_gram(vectors)
        scale = gram.diagonal().rsqrt()
        if not bool(scale.isfinite().all()):
            return None
        factor, info = torch.linalg.cholesky_ex(gram.mul_(scale[:, None]).mul_(scale))
        if int(info) or float(factor.diagonal().amin()) < _SAFE_PIVOT:
            return None
        # Q ← Q D L⁻ᵀ; coefficients follow by the same map, kept transposed.
        inverse = torch.linalg.solve_triangular(factor, torch.diag(scale), upper=False)
        vectors = torch.linalg.solve_triangular(factor, vectors.T * scale[:, None], upper=False).T
        back = inverse if back is None else inverse @ back
        if float(factor.diagonal().amin()) > _EASY_PIVOT:
            break
    return None if back is None else Basis(vectors, back)
