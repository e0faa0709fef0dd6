"""A basis in which the squared norm of the coefficients is a sum of squares, for columns of any sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver._basis import Basis, singular_basis

# Columns whose sizes differ by no more powers of two leave the singular vectors of the design as it is accurate.
_ALIKE = 13
# Columns below this power of two are left at coefficient zero: what brings them to size one is no number any more.
_LEAST = -1000
# Columns of size one this far off those before them need no care.
_EASY = 1e-2
# Of rows that are turned together those down to this share of the longest are settled.
_SETTLED = 2.0**-5
# Rows down to this share are turned together: products of settled rows with shorter ones are next to nothing as it is,
# and rounding errors of the turn would drown these.
_TOGETHER = 2.0**-27 * _SETTLED


def penalised_basis(design: Tensor) -> Basis:
    """Orthonormal basis of col(A) whose rows of `back` are orthogonal, so that ‖u‖² = Σ_i c_i² ‖back_i‖².

    Where sizes of columns differ much, small ones must not pass for rounding errors of large ones. Orthonormalised one
    after the other, the largest first, A = Q L with L in steps; u of least norm with A u = Q c is in the span of
    Lᵀ = W R, so u = W R⁻ᵀ c, and rows of R⁻¹ Wᵀ are all but orthogonal where their lengths are unlike.

    Args:
        design: A, shape (d, r), float64, finite.

    Returns:
        The basis; products of two rows of `back` are rounding errors beside the square of the longer one.

    >>> basis = penalised_basis(torch.tensor([[1.0, 0.0], [0.0, 1e-30]], dtype=torch.float64))
    >>> [f"{length:.0e}" for length in basis.back.norm(dim=1)]
    ['1e+30', '1e+00']
    """
    peak = design.abs().amax(0)
    exponent = torch.frexp(peak).exponent
    present = ((peak > 0) & (exponent >= _LEAST)).nonzero()[:, 0]
    sizes = exponent[present]
    if sizes.numel() == 0 or int(sizes.max() - sizes.min()) <= _ALIKE:
        return singular_basis(design)
    order = sizes.argsort(descending=True, stable=True)
    sizes, present = sizes[order], present[order]
    scale = torch.ldexp(torch.ones_like(peak[present]), sizes)
    vectors, steps = _steps(design[:, present] / scale, sizes)
    # Rows and columns of Lᵀ go from large to small, for which Householder's reflections keep the digits of each.
    orthogonal, triangle = torch.linalg.qr((steps * scale).T)
    turn, rows = _orthogonal_rows(torch.linalg.solve_triangular(triangle, orthogonal.T, upper=True))
    back = rows.new_zeros(len(rows), design.shape[1])
    back[:, present] = rows
    return Basis(vectors @ turn, back)


def _steps(scaled: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormalise columns of size one, those largest before first, and of like ones what is most off the others.

    Args:
        scaled: Shape (d, r).
        sizes: Powers of two that the columns were divided by, descending, shape (r,).

    Returns:
        Q, shape (d, k), and L, shape (k, r), with A = Q L, exactly zero where a column has no part in later ones of Q.
    """
    rows, columns = scaled.shape
    if columns <= rows:
        vectors, steps = torch.linalg.qr(scaled)
        if bool((steps.diagonal().abs() > _EASY).all()):
            return vectors, steps
    lengths = torch.linalg.vector_norm(scaled, dim=0)
    floor = 4 * max(rows, columns) * torch.finfo(scaled.dtype).eps
    vectors, rest = scaled.new_zeros(rows, min(rows, columns)), scaled.clone()
    depth, open_ = torch.full_like(sizes, rows), torch.ones_like(sizes, dtype=torch.bool)
    rank, least = 0, 1.0
    while rank < rows and bool(open_.any()):
        alike = open_ & (sizes >= sizes[open_][0] - _ALIKE)
        off = torch.linalg.vector_norm(rest, dim=0) / lengths * alike
        pivot = int(off.argmax())
        # Directions found from small differences carry larger errors, which must not pass for further directions.
        if float(off[pivot]) * least <= floor:
            depth[alike], open_ = rank, open_ & ~alike
            continue
        least = min(least, float(off[pivot]))
        known, new = vectors[:, :rank], rest[:, pivot]
        new = new - known @ (known.T @ new)
        vectors[:, rank] = new / torch.linalg.vector_norm(new)
        rank += 1
        depth[pivot], open_[pivot] = rank, False
        rest = rest - vectors[:, rank - 1 : rank] @ (vectors[:, rank - 1 : rank].T @ rest)
    vectors = vectors[:, :rank]
    used = torch.arange(rank, device=sizes.device)[:, None] < depth
    return vectors, (vectors.T @ scaled) * used


def _orthogonal_rows(back: Tensor) -> tuple[Tensor, Tensor]:
    """Turn rows of very different lengths, the longest first, until they are orthogonal.

    Args:
        back: Shape (k, r).

    Returns:
        V, shape (k, k), orthogonal, and the rows of Vᵀ back.
    """
    order = _lengths(back).argsort(descending=True)
    rows, turn = back[order], torch.eye(len(back), dtype=back.dtype, device=back.device)[:, order]
    first = 0
    while first < len(rows):
        length = _lengths(rows[first:])
        near = first + (length > _TOGETHER * length.amax()).nonzero()[:, 0]
        rest = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        rest[:first], rest[near] = False, False
        left, values, _ = torch.linalg.svd(rows[near], full_matrices=False)
        count = int((values > _SETTLED * values[0]).sum())
        turned = left.T @ rows[near]
        band, short = turned[:count], turned[count:]
        size = _lengths(band)[:, None]
        for _ in range(3):  # by multiples of these rows themselves, which keeps every column's digits
            short = short - (short @ (band / size).T) @ (band / size)
        rows = torch.cat([rows[:first], band, short, rows[rest]])
        turn = torch.cat([turn[:, :first], turn[:, near] @ left, turn[:, rest]], 1)
        first += count
    return turn, rows


def _lengths(rows: Tensor) -> Tensor:
    """Give the norms of rows whose squares may pass what numbers hold, shape (k,)."""
    peak = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    lengths: Tensor = torch.linalg.vector_norm(rows / peak, dim=1) * peak[:, 0]
    return lengths
