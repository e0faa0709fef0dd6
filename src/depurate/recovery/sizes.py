"""How large the entries of a layer are by nature: scales of kernels and places, as most of their entries show them."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.recovery.bursts import capped

# Deviations below this share of the layer's typical weight are of no consequence, and not looked for.
_HARMLESS = 0.05
NEXT_TO_NOTHING = 0.02
"""Share of a harmless deviation below which an entry says nothing of how large others are."""
# From which on kernels show what is usual at each place.
_FEWEST_KERNELS = 16


def harmless_size(weights: Tensor) -> float:
    """A size of deviations that is of no consequence in a layer; zero where it has only zeros."""
    sizes = weights[weights != 0].abs()
    if sizes.numel() == 0:
        return 0.0
    # Not of those that weight decay left at 1e-20, however many they are.
    sizes = sizes[sizes >= 1e-3 * sizes.kthvalue(-(-9 * sizes.numel() // 10)).values]
    return _HARMLESS * float(sizes.median()) / 0.6745


def rough_scales(update: Tensor, known: Tensor, harmless: float, *, bursts: bool) -> Tensor:
    """Scale of each entry by the medians of its kernel and of its place, both drawn towards the layer's."""
    sizes = torch.where(known | (update.abs() <= NEXT_TO_NOTHING * harmless), torch.nan, update.abs())
    whole = sizes.flatten().nanmedian().nan_to_num(0.0)
    row = sizes.nanmedian(1, keepdim=True).values.nan_to_num(0.0) + 0.3 * whole
    column = (
        sizes.nanmedian(0, keepdim=True).values.nan_to_num(0.0) if len(update) >= _FEWEST_KERNELS else whole
    ) + 0.3 * whole
    if bursts:
        row, column = capped(row), capped(column)
    scales = row * column / (1.3 * whole).clamp_min(1e-30) / 0.6745
    return scales.expand_as(update).clamp_min(harmless)


def fine_scales(residuals: Tensor, hits: Tensor, harmless: float, *, bursts: bool) -> Tensor:
    """Scale of each good residual, a row's times a column's, each drawn towards the layer's by ten entries."""
    good, sizes = (~hits).float(), residuals.abs().clamp_max(1e12)
    row, column = torch.ones_like(sizes[:, :1]), torch.ones_like(sizes[:1])
    for _ in range(3):
        row = _drawn_means(sizes / column, good, 1)
        column = _drawn_means(sizes / row.clamp_min(1e-30), good, 0)
    if bursts:
        row, column = capped(row), capped(column)
    return (1.2533 * row * column).clamp_min(harmless)


def _drawn_means(sizes: Tensor, good: Tensor, axis: int, pull: float = 10.0) -> Tensor:
    count, total = good.sum(axis, keepdim=True), (sizes * good).sum(axis, keepdim=True)
    whole = total.sum() / count.sum().clamp_min(1)
    return (total + pull * whole) / (count + pull)
