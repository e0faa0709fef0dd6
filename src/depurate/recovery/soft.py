"""Soft recovery: the weights nearest to the anchor that compute on benign images what the suspect computes."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.spans import Moments


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
    start = anchor.double()
    shift = strength * moments.energy[:, None, None]
    if moments.gram is not None and moments.cross is not None:
        system = _shifted(moments.gram, shift)
        update = _solve(system, (moments.cross - start @ moments.gram).mT).mT
    else:
        assert moments.wanted is not None
        rows, wanted = moments.rows.double(), moments.wanted.double()
        system = _shifted(rows @ rows.mT, moments.count * shift)
        update = _solve(system, wanted - rows @ start.mT).mT @ rows
    return (start + update).to(anchor.dtype)


def _shifted(matrices: Tensor, shift: Tensor) -> Tensor:
    """A + s I for each of several matrices; in wide layers an identity of its own would be a sixth of all memory."""
    shifted = matrices.clone()
    shifted.diagonal(dim1=1, dim2=2).add_(shift[:, 0])
    return shifted


def _solve(system: Tensor, right: Tensor) -> Tensor:
    # A layer whose benign inputs are all zero has energy 0 and nothing to solve for: its update is zero.
    factor, info = torch.linalg.cholesky_ex(system)
    if bool(info.any()):
        inverse: Tensor = torch.linalg.pinv(system, hermitian=True)
        return inverse @ right
    solution: Tensor = torch.cholesky_solve(right, factor)
    return solution
