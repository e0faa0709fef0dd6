"""What a layer is shown by one call, for hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def shown(inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Tensor:
    """The input of a layer that takes one, however it was called.

    Args:
        inputs: Positional arguments.
        named: Keyword arguments, as hooks with `with_kwargs` get them.

    Returns:
        The first of them.

    >>> import torch
    >>> shown((), {"input": torch.ones(2)})
    tensor([1., 1.])
    """
    first: Tensor = inputs[0] if inputs else next(iter(named.values()))
    return first
