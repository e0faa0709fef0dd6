"""Layers whose weight is computed from other parameters at every call, and what makes it a plain one again."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.utils import parametrize

_NAMED = 3
_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NEW = "torch.nn.utils.parametrize.remove_parametrizations"
# By the parameter that hooks of the old kind, and pruning, leave in a layer instead of its weight.
_OLD = {
    "weight_mask": "torch.nn.utils.prune.remove",
    "weight_g": "torch.nn.utils.remove_weight_norm",
    "weight_orig": "torch.nn.utils.remove_spectral_norm",
}
# Those that have to be told which of the layer's tensors is meant.
_OF = {_NEW: ", 'weight'", "torch.nn.utils.prune.remove": ", 'weight'"}


def parametrised_layers(model: nn.Module) -> dict[str, str]:
    """Name the convolutions and dense layers that have no weight of their own to put a recovered one into.

    Args:
        model: Any network.

    Returns:
        By the layer's name, the function of torch that gives it one.

    Example:
        >>> net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 1)), nn.Linear(1, 1))
        >>> parametrised_layers(net)
        {'0': 'torch.nn.utils.parametrize.remove_parametrizations'}
    """
    found = {}
    for name, module in model.named_modules():
        if not isinstance(module, _LAYERS):
            continue
        held = dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
        if parametrize.is_parametrized(module):
            found[name] = _NEW
        elif "weight" not in held:
            cure = next((cure for part, cure in _OLD.items() if part in held), None)
            found |= {} if cure is None else {name: cure}
    return found


def told_parametrised(layers: Mapping[str, str]) -> str:
    """Say of what `parametrised_layers` found which layers these are and what to call on each.

    >>> told_parametrised({"fc": "torch.nn.utils.remove_weight_norm"}).partition("; ")[2]
    'torch.nn.utils.remove_weight_norm(layer) makes it plain, and then it can be recovered'
    """
    named = ", ".join([*layers][:_NAMED]) + (", ..." if len(layers) > _NAMED else "")
    cures = " or ".join(f"{cure}(layer{_OF.get(cure, '')})" for cure in dict.fromkeys(layers.values()))
    one = len(layers) == 1
    return (
        f"{len(layers)} {'layer' if one else 'layers'} ({named}) {'is' if one else 'are'} parametrised, "
        f"{'its weight' if one else 'their weights'} computed from other parameters; {cures} "
        f"{'makes it' if one else 'makes them'} plain, and then {'it' if one else 'they'} can be recovered"
    )
