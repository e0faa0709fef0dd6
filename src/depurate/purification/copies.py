"""Working copies: the suspect and the anchor brought into a form that recovery can work on, and back again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from depurate.checkpoints.prefixes import meet
from depurate.errors import InputError
from depurate.networks import copy_of, unwrapped
from depurate.recovery import Rounding, certain_hits, hit_statistics, is_mask, read_statistics, rounding_for
from depurate.spans import BATCH_NORMS


def working_copy(model: nn.Module, *, double: bool) -> nn.Module:
    """Copy a network into evaluation mode and a precision that computes well everywhere.

    Args:
        model: Left as it is.
        double: Whether to compute in float64; else half precision becomes float32 and the rest stays.

    Returns:
        The copy, without gradients.

    Raises:
        InputError: The network has no floating-point parameter.
    """
    narrow = first_floating(model).dtype in (torch.float16, torch.bfloat16)
    copied = copy_of(unwrapped(model)).eval().requires_grad_(False)
    return copied.double() if double else copied.float() if narrow else copied


def first_floating(model: nn.Module) -> nn.Parameter:
    """Return a network's first floating-point parameter, whose dtype and device stand for the network's.

    Raises:
        InputError: There is none.

    >>> first_floating(nn.Linear(1, 1).half()).dtype
    torch.float16
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter
    raise InputError("the network has no floating-point parameters: nothing to purify")


def rounding_of(*states: nn.Module | Mapping[str, Tensor] | None) -> dict[str, Rounding]:
    """Return the rounding that training left in the weights of each layer, by how they were stored.

    Args:
        states: The network and its anchor, or the tensors of their files under the network's names; the coarsest
            counts, as updates are differences of the two.

    Returns:
        By the name of the module that holds the tensors.

    >>> found = rounding_of({"fc.weight": torch.zeros(2, 2).half(), "head.weight": torch.zeros(2, 2).double()})
    >>> {name: rounding.update for name, rounding in found.items()}
    {'fc': 0.01, 'head': 1e-11}
    """
    stored: dict[str, list[torch.dtype]] = {}
    first: list[str] = []
    for state in states:
        tensors = unwrapped(state).state_dict() if isinstance(state, nn.Module) else state or {}
        first = first or list(tensors)
        for key, name in meet(tensors.keys(), first).items():
            value = tensors[key]
            if isinstance(value, Tensor) and value.is_floating_point():
                stored.setdefault(name.rpartition(".")[0], []).append(value.dtype)
    return {name: rounding_for(*dtypes) for name, dtypes in stored.items()}


def like_the_original(model: nn.Module, purified: nn.Module) -> nn.Module:
    """Put purified weights into a copy of the network that was handed in, with its dtypes, device and modes."""
    copied = copy_of(model)
    unwrapped(copied).load_state_dict(purified.state_dict())
    return copied


def anchor_state(anchor: nn.Module | Mapping[str, Tensor] | None, model: nn.Module) -> dict[str, Tensor]:
    """Return the anchor's tensors on the suspect's device, checked against the suspect's names and shapes.

    Args:
        anchor: Network, state dict or None.
        model: The suspect.

    Returns:
        Tensors by name; empty when the anchor is unknown.

    Raises:
        InputError: No name matches, a shape differs, a layer's bias is missing, or a value is NaN or Inf.

    >>> sorted(anchor_state(nn.Linear(2, 1), nn.Linear(2, 1)))
    ['bias', 'weight']
    """
    if anchor is None:
        return {}
    given = unwrapped(anchor).state_dict() if isinstance(anchor, nn.Module) else dict(anchor)
    wanted = model.state_dict()
    given = {name: given[key] for key, name in meet(given.keys(), wanted.keys()).items()}
    shared = {name: value for name, value in given.items() if name in wanted and isinstance(value, Tensor)}
    if not shared:
        raise InputError(
            f"anchor: none of its {len(given)} names is in the network (first: {next(iter(given), '-')})"
        )
    for name, value in shared.items():
        if value.shape != wanted[name].shape:
            raise InputError(
                f"anchor: {name} is {tuple(value.shape)}, the suspect's is {tuple(wanted[name].shape)}"
            )
        partner = f"{name.removesuffix('weight')}bias"
        if name.endswith("weight") and partner in wanted and partner not in shared:
            raise InputError(f"anchor: it has {name} but no {partner}; a layer's anchor has to be whole")
        bad = int((~value.isfinite()).sum()) if value.is_floating_point() else 0
        if bad:
            raise InputError(f"anchor: {name} has {bad} NaN or Inf entries; an anchor must be clean")
    return {name: value.detach().to(wanted[name].device) for name, value in shared.items()}


def working_damage(model: nn.Module) -> bool:
    """Tell whether any tensor of a network holds entries that no training produces.

    Parameters, and variances by their roots: running means are judged with them by the walk.

    >>> working_damage(nn.Linear(2, 2))
    False
    """
    parameters = (parameter for parameter in model.parameters() if not is_mask(parameter))
    if any(bool(certain_hits(parameter).any()) for parameter in parameters):
        return True
    return any(
        bool(hit_statistics(*read_statistics(module)).any())
        for module in model.modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    )
