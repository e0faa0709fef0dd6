"""Soft recovery: the weights nearest to the anchor that compute on benign images what the suspect computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from depurate.spans import Moments

# Weights recovered together: a dense layer of a VGG has a hundred million.
_AT_ONCE = 1 << 23


def soft_recovery(moments: Moments, anchor: Tensor, strength: float) -> Tensor:
    """Recover a layer in closed form on the soft span of its clean patches.

    W̃ = argmin_V E‖V x̃ − t‖² + μ‖V − W(0)‖² = (E[t x̃ᵀ] + μ W(0)) (E[x̃x̃ᵀ] + μ I)⁻¹,  μ = λ · mean diag E[x̃x̃ᵀ].
    With fewer patches than fan_in the equal dual form
    W̃ = W(0) + (T − W(0)X̃ᵀ)(X̃X̃ᵀ + NμI)⁻¹X̃ needs an N × N system only.

    Args:
        moments: Of this layer, from `spans.measure`.
        anchor: Shape (groups, kernels, fan_in), any floating dtype.
        strength: λ > 0, without unit.

    Returns:
        The recovered kernels, shape and dtype of `anchor`.

    Example:
        >>> x = torch.eye(2).expand(1, 2, 2)
        >>> seen = Moments(2, x.double() / 2, 4 * x.double() / 2, x, None)
        >>> soft_recovery(seen, torch.zeros(1, 2, 2), strength=1.0)
        tensor([[[2., 0.],
                 [0., 2.]]])

    Source: Hoerl & Kennard, Ridge regression, Technometrics 12 (1970), shrunk towards the anchor instead of zero.
    """
    shift = strength * moments.energy[:, None, None]
    recovered = torch.empty_like(anchor)
    if moments.gram is not None and moments.cross is not None:
        solve = _solver(_shifted(moments.gram, shift))
        for part in _parts(anchor):
            start = anchor[:, part].double()
            recovered[:, part] = start + solve((moments.cross[:, part] - start @ moments.gram).mT).mT
        return recovered
    assert moments.wanted is not None
    rows = moments.rows.double()
    solve = _solver(_shifted(rows @ rows.mT, moments.count * shift))
    for part in _parts(anchor):
        start, wanted = anchor[:, part].double(), moments.wanted[:, :, part].double()
        recovered[:, part] = start + solve(wanted - rows @ start.mT).mT @ rows
    return recovered


def _parts(kernels: Tensor) -> Iterator[slice]:
    """So many kernels at a time that what is computed in float64 takes little memory beside them all."""
    groups, count, fan_in = kernels.shape
    at_once = max(1, _AT_ONCE // (groups * fan_in))
    return (slice(first, first + at_once) for first in range(0, count, at_once))


def _shifted(matrices: Tensor, shift: Tensor) -> Tensor:
    """A + s I for each of several matrices; in wide layers an identity of its own would be a sixth of all memory."""
    shifted = matrices.clone()
    shifted.diagonal(dim1=1, dim2=2).add_(shift[:, 0])
    return shifted


def _solver(system: Tensor) -> Callable[[Tensor], Tensor]:
    # A layer whose benign inputs are all zero has energy 0 and nothing to solve for: its update is zero.
    factor, info = torch.linalg.cholesky_ex(system)
    inverse = torch.linalg.pinv(system, hermitian=True) if bool(info.any()) else None

    def solve(right: Tensor) -> Tensor:
        return torch.cholesky_solve(right, factor) if inverse is None else inverse @ right

    return solve
