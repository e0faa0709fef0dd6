"""Loads a state into a copy of a network, strictly, and says what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from depurate.checkpoints.checkpoint import Checkpoint
from depurate.checkpoints.prefixes import meet
from depurate.checkpoints.quoting import quote, quote_few
from depurate.errors import InputError
from depurate.networks import copy_of


def load_state(model: nn.Module, checkpoint: Checkpoint | Mapping[str, Tensor], *, source: str) -> nn.Module:
    """Copy a network and load a state into the copy.

    Half precision is computed in float32, which holds it exactly; one float64 tensor makes the whole copy
    float64. What DataParallel, torch.compile or Lightning put before all names is seen through.
    `num_batches_tracked` may be missing, and so may the second name of a tied tensor.

    Args:
        model: The network; it is not changed.
        checkpoint: What `read_checkpoint` returned, or named tensors.
        source: Name of the state for errors.

    Returns:
        The copy, in the same training or evaluation mode.

    Raises:
        InputError: If keys are missing or unexpected, or shapes or kinds of numbers differ.

    >>> load_state(nn.Linear(2, 1), {"weight": torch.zeros(3, 2), "bias": torch.zeros(1)}, source="a.pt")
    Traceback (most recent call last):
    depurate.errors.InputError: a.pt: does not fit the network: 1 of another shape (weight: (3, 2) in the
    file, (1, 2) in the network)
    """
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise InputError(
            f"{source}: the network has lazy layers without shapes; run it once on an image first"
        )
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise InputError(
            f"{source}: the network was made on the meta device, without values; make it on the CPU"
        )
    target = copy_of(model)
    weights = match_names(checkpoint, target.state_dict().keys())
    wide = any(value.dtype == torch.float64 for value in weights.values())
    target.to(torch.float64 if wide else torch.float32)
    # The network's own dict is filled, because it carries the version of each layer.
    current = target.state_dict()
    expected = {key: value for key, value in current.items() if isinstance(value, Tensor)}
    faults = list(_misfits(weights, expected))
    if faults:
        raise InputError(f"{source}: does not fit the network: {'; '.join(faults)}")
    _check_ties(weights, expected, source)
    current.update({key: weights[name] for key, name in _filled_from(weights, expected).items()})
    target.load_state_dict(current)
    return target


def match_names(checkpoint: Checkpoint | Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Give the state the network's names, whatever one of the two has around it.

    Args:
        checkpoint: What `read_checkpoint` returned, or named tensors.
        names: The network's own names.

    Returns:
        The same tensors, possibly renamed.
    """
    state = checkpoint.state if isinstance(checkpoint, Checkpoint) else dict(checkpoint)
    return {name: state[key] for key, name in meet(state.keys(), set(names)).items()}


def _misfits(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> Iterator[str]:
    """Every way in which the weights do not fit, one phrase a kind."""
    filled = _filled_from(weights, expected)
    missing = [k for k in expected if k not in filled and not k.endswith("num_batches_tracked")]
    if missing:
        yield f"{len(missing)} missing ({quote_few(missing)})"
    unexpected = [key for key in weights if key not in expected]
    if unexpected:
        yield f"{len(unexpected)} unexpected ({quote_few(unexpected)})"
    pairs = [(key, weights[key], expected[key]) for key in weights if key in expected]
    shapes = [
        f"{quote(key)}: {tuple(found.shape)} in the file, {tuple(wanted.shape)} in the network"
        for key, found, wanted in pairs
        if found.shape != wanted.shape
    ]
    if shapes:
        more = "" if len(shapes) <= 3 else f" and {len(shapes) - 3} more"
        yield f"{len(shapes)} of another shape ({'; '.join(shapes[:3])}{more})"
    kinds = [
        f"{quote(key)} is {found.dtype}"
        for key, found, wanted in pairs
        if found.is_floating_point() != wanted.is_floating_point()
    ]
    if kinds:
        yield f"{len(kinds)} of another kind of number ({', '.join(kinds[:3])}): dequantise them"


def _filled_from(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, str]:
    """Map every name of the network that can be filled to the name to fill it from: its own or a tied one."""
    present = {_place(value): key for key, value in expected.items() if key in weights and value.numel()}
    filled = {key: key if key in weights else present.get(_place(value)) for key, value in expected.items()}
    return {key: name for key, name in filled.items() if name is not None}


def _check_ties(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Refuse different values under names that the network keeps in one tensor: only one would survive."""
    first: dict[tuple[object, ...], str] = {}
    for key, value in expected.items():
        if key in weights and value.numel():
            other = first.setdefault(_place(value), key)
            if other != key and not _equal(weights[key], weights[other]):
                raise InputError(
                    f"{source}: {quote(other)} and {quote(key)} are one tensor in the network but differ"
                )


def _equal(one: Tensor, other: Tensor) -> bool:
    """Equality in which NaN equals NaN."""
    return bool(torch.isclose(one.double(), other.double(), rtol=0, atol=0, equal_nan=True).all())


def _place(value: Tensor) -> tuple[object, ...]:
    return value.data_ptr(), value.shape, value.stride()
