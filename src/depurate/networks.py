"""Networks as they are handed in: what is wrapped around them, and copies of them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from depurate.errors import InputError


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what `DataParallel`, its distributed kin or `torch.compile` put around it.

    Raises:
        InputError: It is a script, whose layers cannot be reached.

    >>> type(unwrapped(nn.DataParallel(nn.Linear(1, 1)))).__name__
    'Linear'
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError(
            "the network is a TorchScript, whose layers cannot be reached: hand in the nn.Module"
        )
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return unwrapped(model.module)
    inner = getattr(model, "_orig_mod", None)
    return unwrapped(inner) if isinstance(inner, nn.Module) else model


def copy_of(model: nn.Module) -> nn.Module:
    """Copy a network, also one with computed weights, which old-style weight normalisation and pruning leave in it.

    >>> net = torch.nn.utils.weight_norm(nn.Linear(2, 1))
    >>> copy_of(net).weight.shape
    torch.Size([1, 2])
    """
    computed = {
        id(value): value.detach().clone()
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    memo: dict[int, Any] = dict(computed)
    return copy.deepcopy(model, memo)
