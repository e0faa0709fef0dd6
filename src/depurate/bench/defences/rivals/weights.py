"""The layers' weights as matrices, for repairs that look at nothing else."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from depurate.bench.defences.rivals.training import working_copy


def repair_weights(model: nn.Module, repair: Callable[[str, Tensor], Tensor]) -> nn.Module:
    """Copy a network and replace the weights of its convolutions and dense layers.

    Args:
        model: The network.
        repair: Called with the name of a weight and its matrix, kernels by fan-in, float64; returns the repaired one.

    Returns:
        The repaired copy.
    """
    net = working_copy(model)
    with torch.no_grad():
        for name, module in net.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                weight = module.weight
                repaired = repair(f"{name}.weight" if name else "weight", weight.flatten(1).double())
                weight.copy_(repaired.view(weight.shape))
    return net


def deviation(values: Tensor) -> Tensor:
    """Standard deviation of the finite values by their median: 1.4826 · median |w − median w|."""
    finite = values[values.isfinite()]
    return 1.4826 * (finite - finite.median()).abs().median()
