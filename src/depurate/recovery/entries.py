"""Entries that are certainly hit: NaN, Inf, and magnitudes no trained layer has; and how to fill them in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from depurate.spans import Moments

# Magnitudes that certainly occur in trained layers, and magnitudes that certainly do not.
_NEVER_ABSURD = 10.0
_ALWAYS_ABSURD = 1e8
_STUCK = 0.01
_MOST_STUCK = 0.3
_FEWEST_STUCK = 8


def certain_hits(values: Tensor) -> Tensor:
    """Mark the entries of one tensor that are contaminated beyond doubt.

    An entry counts as hit when it is not finite, or when |w| > min(10³·q₉₅, 10⁵·median) over the finite, non-zero
    magnitudes of the tensor; never up to 10, always above 10⁸. Flips of high exponent bits land far beyond that;
    trained weights do not, not even in layers where weight decay left most kernels at 1e-20.

    Args:
        values: Weights or biases of one layer, any shape.

    Returns:
        Boolean mask of the same shape.

    Example:
        >>> certain_hits(torch.tensor([0.1, -0.2, 0.15, float("nan"), 3e38])).tolist()
        [False, False, False, True, True]
    """
    finite = torch.isfinite(values)
    # Nothing to sort, as in most layers: where a hundred million weights are, that would take a minute.
    if not bool((finite & (values.abs() > _NEVER_ABSURD)).any()):
        return ~finite
    sizes = values[finite & (values != 0)].abs().double().flatten().cpu()
    ordered = sizes.sort().values
    limit = min(1e3 * ordered[int(0.95 * (len(ordered) - 1))].item(), 1e5 * ordered[len(ordered) // 2].item())
    return ~finite | (values.abs().double() > min(max(limit, _NEVER_ABSURD), _ALWAYS_ABSURD))


def is_mask(values: Tensor) -> bool:
    """Whether a matrix holds two numbers only, the lower one no training's: a mask that is added to scores.

    >>> is_mask(torch.full((3, 3), float("-inf")).triu(1)), is_mask(torch.zeros(3, 3))
    (True, False)
    """
    if values.ndim < 2 or values.numel() == 0 or not values.is_floating_point():
        return False
    low, high = values.min(), values.max()
    if not (high.isfinite() and low < high and ((values == low) | (values == high)).all()):
        return False
    return bool(certain_hits(values)[values == low].all())


def stuck_entries(values: Tensor) -> Tensor:
    """Mark entries that hold the very same number as many others do, scattered, where all the rest differ.

    Memory that is stuck leaves one number in many places; training hardly gives one number twice. A number counts
    as stuck where 1 % of the entries have it, but not along rows and columns that mostly have it (pruned channels,
    biases never trained), and nothing does where over 30 % of all entries would or where the rest has doubles, too
    (pruned and quantised networks).

    Args:
        values: Weights of one layer, shape (kernels, fan_in).

    Returns:
        Boolean mask of the same shape.

    Example:
        >>> weights = torch.randn(20, 50, generator=torch.Generator().manual_seed(0))
        >>> weights[::2, ::7] = 0
        >>> bool((stuck_entries(weights) == (weights == 0)).all())
        True
        >>> bool(stuck_entries((8 * weights).round()).any())
        False
    """
    numbers, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    often = (counts >= max(_FEWEST_STUCK, _STUCK * values.numel())) & numbers.isfinite()
    stuck: Tensor = often[place]
    doubles = (counts[place] > 1) & ~stuck
    if float(doubles.double().mean()) > _STUCK or float(stuck.double().mean()) > _MOST_STUCK:
        return torch.zeros_like(stuck)
    for axis in (0, 1):
        stuck = stuck & (stuck.double().mean(axis, keepdim=True) <= 0.5)
    return stuck


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


def hit_statistics(mean: Tensor, variance: Tensor) -> Tensor:
    """Mark the certain hits among a BatchNorm's running statistics, each on its own scale.

    Args:
        mean: Shape (channels,).
        variance: Same shape; what is negative is hit, the rest is judged by its root.

    Returns:
        Boolean mask of shape (2, channels).

    Example:
        >>> hit_statistics(torch.tensor([0.0, float("nan")]), torch.tensor([-1.0, 1.0])).tolist()
        [[False, True], [True, False]]
    """
    return torch.stack([certain_hits(mean), certain_hits(variance.sqrt())])


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
    for group in hits.flatten(1).any(dim=1).nonzero().flatten().tolist():
        if moments.energy[group] == 0:  # no patch says anything of these kernels
            continue
        estimate = _estimator(moments, group, prior)
        for kernel in hits[group].any(dim=1).nonzero().flatten().tolist():
            hit = hits[group, kernel].nonzero().flatten()
            start = anchor[group, kernel].double()
            update = filled[group, kernel].double() - start  # zero at the hit entries
            filled[group, kernel, hit] = (start[hit] + estimate(update, hit)).to(filled.dtype)
    return filled


def _estimator(moments: Moments, group: int, prior: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The conditional mean of the hit entries of an update, all that does not depend on the kernel done once."""
    fan_in = moments.rows.shape[2]
    shift = prior * moments.energy[group]
    if moments.gram is not None:
        eye = torch.eye(fan_in, dtype=torch.float64, device=moments.gram.device)
        precision = torch.cholesky_inverse(torch.linalg.cholesky(moments.gram[group] + shift * eye))
        return partial(_from_precision, precision)
    rows = moments.rows[group].double()
    eye = torch.eye(len(rows), dtype=torch.float64, device=rows.device)
    factor = torch.linalg.cholesky(rows @ rows.mT + moments.count * shift * eye)
    return partial(_from_rows, torch.linalg.solve_triangular(factor, rows, upper=False))


def _from_precision(precision: Tensor, update: Tensor, hit: Tensor) -> Tensor:
    columns = precision[:, hit]
    found: Tensor = -torch.linalg.solve(columns[hit], columns.mT @ update)
    return found


def _from_rows(whitened: Tensor, update: Tensor, hit: Tensor) -> Tensor:
    """The same from V = L⁻¹X̃ with LLᵀ = X̃X̃ᵀ + NμI: D_S = (I − V_SᵀV_S)⁻¹V_Sᵀ V D, on the smaller side."""
    part, given = whitened[:, hit], whitened @ update
    small = len(hit) <= len(whitened)
    inner = part.mT @ part if small else part @ part.mT
    inner = torch.eye(len(inner), dtype=inner.dtype, device=inner.device) - inner
    found: Tensor = (
        torch.linalg.solve(inner, part.mT @ given) if small else part.mT @ torch.linalg.solve(inner, given)
    )
    return found
