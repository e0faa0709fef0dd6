"""A layer's anchor in the form that recovery takes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from depurate.spans import key_of


def anchor_kernels(anchor: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor | None:
    """Flatten a layer's anchor as `spans.read_kernels` flattens the layer.

    Args:
        anchor: State dict, may be empty.
        name: Of the layer.
        like: The layer's own kernels, shape (groups, kernels, fan_in).

    Returns:
        Same shape and dtype, or None when the anchor lacks the layer.

    >>> anchor_kernels({"fc.weight": torch.ones(2, 3)}, "fc", torch.zeros(1, 2, 4)).tolist()
    [[[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]]]
    """
    weight = anchor.get(key_of(name, "weight"))
    if weight is None:
        return None
    kernels = weight.to(like).reshape(*like.shape[:2], -1)
    if kernels.shape[2] < like.shape[2]:
        bias = anchor.get(key_of(name, "bias"))
        column = (
            torch.zeros_like(like[..., :1]) if bias is None else bias.to(like).reshape(*like.shape[:2], 1)
        )
        kernels = torch.cat([kernels, column], dim=2)
    return kernels


def grown_anchor(weights: Tensor, anchor: Tensor, hit: Tensor) -> Tensor:
    """What decay and growth made of an anchor: c·a, c = argmin Σ |w − c a| over the entries that are not hit.

    Args:
        weights: Any shape.
        anchor: Same shape.
        hit: Entries not to count, same shape, bool.

    Returns:
        Same shape; as it is where nothing is left to tell c by.

    >>> start, nothing = torch.tensor([1.0, 2.0, 4.0]), torch.zeros(3, dtype=torch.bool)
    >>> grown_anchor(torch.tensor([0.5, 9.0, 2.0]), start, nothing).tolist()
    [0.5, 1.0, 2.0]

    Source: the weighted median, as for one regressor in Bloomfield & Steiger, Least Absolute Deviations, 1983.
    """
    told = ~hit & (anchor != 0)
    if not bool(told.any()):
        return anchor
    start = anchor[told].double()
    ratios, order = (weights[told].double() / start).sort()
    below = start.abs()[order].cumsum(0)
    return (ratios[int((below < 0.5 * below[-1]).sum())] * anchor.double()).to(anchor)
