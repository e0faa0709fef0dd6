"""An orthonormal basis of a design's column space, and the way back from it to coefficients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import scipy.linalg
import torch
from torch import Tensor

from depurate.solver._gram import lower_gram

# A Gram matrix of unit columns whose Cholesky factor keeps its diagonal above this has condition number below
# about 1e4, so two rounds of Cholesky QR reach machine precision.
_SAFE_PIVOT = 1e-3
# Up to this condition a span is as sure as the numbers of the design.
_SURE = 1e4
# Above this one round does.
_EASY_PIVOT = 0.4


@dataclass(frozen=True)
class Basis:
    """Columns Q (d×k, orthonormal) spanning the design A (d×r), and M (k×r) with A (Q c Mᵀ) = Q c for any c.

    Attributes:
        vectors: Q, shape (d, k).
        back: Mᵀ, shape (k, r): coefficients = c @ back for c of shape (p, k).
        doubt: How far Q may be from the design's own span, relatively: rounding times condition, where that matters.
    """

    vectors: Tensor
    back: Tensor
    doubt: float = 0.0

    @property
    def rank(self) -> int:
        """Dimension k of the column space."""
        return int(self.vectors.shape[1])


def exponents(peak: Tensor) -> Tensor:
    """Powers of two next to sizes, which are positive; that of one for zero."""
    found: Tensor = torch.frexp(torch.where(peak > 0, peak, 1.0)).exponent
    return found


def orthonormal_basis(design: Tensor) -> Basis:
    """Orthonormal basis of col(A) by Cholesky QR where A is well conditioned, else with pivoting.

    Columns are first scaled to size one by powers of two, which is exact, so columns of very different size
    do not hide one another.

    Args:
        design: A, shape (d, r), floating point, finite.
    """
    peak = design.abs().amax(0) if design.shape[0] else design.new_zeros(design.shape[1])
    scale = torch.ldexp(torch.ones_like(peak), exponents(peak))
    scaled = design / scale
    basis = _cholesky_qr(scaled) or _pivoted_basis(scaled)
    return replace(basis, back=basis.back / scale)


def _pivoted_basis(matrix: Tensor) -> Basis:
    """The same for a design of any rank and condition, by Householder's reflections with pivoting.

    With its rows sorted by size every row is reproduced to its own rounding, so that small rows are not lost beside
    large ones, as singular vectors would lose them.

    Args:
        matrix: A, shape (d, r), floating point, finite, columns of size one.

    Source: Cox & Higham, Stability of Householder QR factorization for weighted least squares problems, 1998.
    """
    if not bool(matrix.any()):
        return Basis(matrix.new_zeros(len(matrix), 0), matrix.new_zeros(0, matrix.shape[1]))
    order = matrix.abs().amax(1).argsort(descending=True, stable=True)
    found = scipy.linalg.qr(matrix[order].cpu().numpy(), mode="economic", pivoting=True)
    vectors, upper = (torch.from_numpy(part).to(matrix) for part in found[:2])
    values = torch.linalg.svdvals(upper)
    rank = _rank(values, matrix)
    # R = L Pᵀ: the coefficients of least norm are P L⁻¹ c.
    turned, lower = torch.linalg.qr(upper[:rank].T)
    back = torch.linalg.solve_triangular(lower, turned.T, upper=True)
    place = torch.from_numpy(found[2]).to(matrix.device).long()
    vectors = torch.empty_like(vectors[:, :rank]).index_copy_(0, order, vectors[:, :rank])
    back = torch.empty_like(back).index_copy_(1, place, back)
    return Basis(vectors, back, min(_doubt(values, rank), _doubt_of_even_rows(matrix)))


def _rank(values: Tensor, matrix: Tensor) -> int:
    return int((values > max(matrix.shape) * torch.finfo(matrix.dtype).eps * values[0]).sum())


def _doubt(values: Tensor, rank: int) -> float:
    condition = float(values[0] / values[rank - 1])
    return torch.finfo(values.dtype).eps * condition if condition > _SURE else 0.0


def _doubt_of_even_rows(matrix: Tensor) -> float:
    """What columns alone make of it: with rows of very different size each is reproduced to its own rounding."""
    even = torch.ldexp(matrix, -exponents(matrix.abs().amax(1, keepdim=True)))
    values = torch.linalg.svdvals(even)
    return _doubt(values, _rank(values, even))


def singular_basis(matrix: Tensor) -> Basis:
    """The left singular vectors of a design, unscaled: rows of `back` are orthogonal, and coefficients of least norm.

    Args:
        matrix: A, shape (d, r), floating point, finite.
    """
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    if values.numel() == 0 or float(values[0]) == 0:
        return Basis(matrix.new_zeros(matrix.shape[0], 0), matrix.new_zeros(0, matrix.shape[1]))
    rank = _rank(values, matrix)
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
