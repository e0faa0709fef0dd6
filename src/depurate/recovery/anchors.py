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
