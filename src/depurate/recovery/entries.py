"""Entries that are certainly hit: NaN, Inf, and magnitudes no trained layer has; and how to fill them in."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.spans import Moments


def certain_hits(values: Tensor) -> Tensor:
    """Mark the entries of one tensor that are contaminated beyond doubt.

    An entry counts as hit when it is not finite, or when |w| > min(100·q₉₅, 10⁴·median) over the finite, non-zero
    magnitudes of the tensor. Flips of high exponent bits land far beyond that; trained weights do not.

    Args:
        values: Weights or biases of one layer, any shape.

    Returns:
        Boolean mask of the same shape.

    Example:
        >>> certain_hits(torch.tensor([0.1, -0.2, 0.15, float("nan"), 3e38])).tolist()
        [False, False, False, True, True]
    """
    finite = torch.isfinite(values)
    sizes = values[finite & (values != 0)].abs().double().flatten().cpu()
    if sizes.numel() == 0:
        return ~finite
    ordered = sizes.sort().values
    limit = min(100 * ordered[int(0.95 * (len(ordered) - 1))].item(), 1e4 * ordered[len(ordered) // 2].item())
    return ~finite | (values.abs().double() > limit)


def hit_kernels(kernels: Tensor, bias: bool) -> Tensor:
    """Mark the certain hits among flattened kernels, weights and biases each on their own scale.

    Args:
        kernels: Shape (groups, kernels, fan_in).
        bias: Whether the last number of each kernel is its bias.

    Returns:
        Boolean mask of the same shape.

    Example:
        >>> hit_kernels(torch.tensor([[[0.1, 0.2, 90.0], [0.1, float("inf"), 80.0]]]), bias=True).sum().item()
        1
    """
    if not bias:
        return certain_hits(kernels)
    return torch.cat([certain_hits(kernels[..., :-1]), certain_hits(kernels[..., -1:])], dim=2)


def fill_entries(
    kernels: Tensor, hits: Tensor, anchor: Tensor, moments: Moments, prior: float = 0.01
) -> Tensor:
    """Fill hit entries with their conditional mean given the rest of their kernel.

    With W − W(0) ~ N(0, C + μI), C = E[x̃x̃ᵀ], P = (C + μI)⁻¹, the hit entries S given the good ones G are
    D_S = −P_SS⁻¹ P_SG D_G. Every other entry is returned bit for bit.

    Args:
        kernels: Shape (groups, kernels, fan_in); the values at `hits` are not used.
        hits: Boolean mask of the same shape.
        anchor: Same shape.
        moments: Of this layer's clean patches.
        prior: μ in units of the mean diagonal of C.

    Returns:
        The filled kernels, a new tensor.

    Example:
        >>> x = torch.tensor([[[1.0, 1.0], [2.0, 2.0]]])
        >>> seen = Moments(2, (x.mT @ x).double() / 2, torch.zeros(1, 1, 2).double(), x, None)
        >>> hit = torch.tensor([[[False, True]]])
        >>> bool(fill_entries(torch.tensor([[[3.0, 1e9]]]), hit, torch.zeros(1, 1, 2), seen)[0, 0, 1] > 2.9)
        True

    Source: kriging, the conditional mean of a Gaussian field.
    """
    filled = torch.where(hits, anchor, kernels)
    for group, kernel in hits.any(dim=2).nonzero().tolist():
        hit = hits[group, kernel].nonzero().flatten()
        update = (filled - anchor)[group, kernel].double()
        columns = _precision_columns(moments, group, hit, prior)
        inside = columns[hit]
        given = columns.mT @ update  # the update is zero at the hit entries: only the good ones contribute
        estimate = -torch.linalg.lstsq(inside, given[:, None]).solution[:, 0]
        filled[group, kernel, hit] = anchor[group, kernel, hit] + estimate.to(filled.dtype)
    return filled


def _precision_columns(moments: Moments, group: int, hit: Tensor, prior: float) -> Tensor:
    """Columns `hit` of (C + μI)⁻¹, shape (fan_in, |hit|)."""
    fan_in = moments.rows.shape[2]
    shift = prior * moments.energy[group].clamp_min(torch.finfo(torch.float64).tiny)
    unit = torch.zeros(fan_in, len(hit), dtype=torch.float64, device=hit.device)
    unit[hit, torch.arange(len(hit), device=hit.device)] = 1.0
    if moments.gram is not None:
        eye = torch.eye(fan_in, dtype=torch.float64, device=hit.device)
        solution: Tensor = torch.cholesky_solve(
            unit, torch.linalg.cholesky(moments.gram[group] + shift * eye)
        )
        return solution
    rows = moments.rows[group].double()
    weight = moments.count * shift
    system = rows @ rows.mT + weight * torch.eye(len(rows), dtype=torch.float64, device=hit.device)
    columns: Tensor = (unit - rows.mT @ torch.linalg.solve(system, rows @ unit)) / weight
    return columns
