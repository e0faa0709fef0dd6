"""Finds the state dict inside what people put around it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from depurate.checkpoints.quoting import quote_few
from depurate.errors import InputError

_WRAPPERS = ("state_dict", "model_state_dict", "net", "model", "weights")
_MAX_DEPTH = 2
_LOOKED_INTO = 8
_TOO_DEEP = f"holds tensors only more than {_MAX_DEPTH} levels deep; save the state dict alone"


def unwrap(content: object, *, source: str) -> tuple[Mapping[Any, Any], tuple[str, ...], tuple[str, ...]]:
    """Find the state dict in the content of a checkpoint file.

    Entries beside it (epoch, optimizer, ...) are ignored. A usual name such as `state_dict` or `model` goes
    first; otherwise the one entry that maps names to tensors is taken, unless there are tensors beside it.

    Args:
        content: What the file held.
        source: Name of the file for errors.

    Returns:
        The state dict, the keys that led to it, and the keys of other state dicts beside it that were left out.

    Raises:
        InputError: If there is no state dict, or more than one.

    >>> unwrap({"epoch": 3, "net": {"w": Tensor([1.0])}}, source="a.pt")
    ({'w': tensor([1.])}, ('net',), ())
    """
    path: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    known: dict[tuple[int, int], bool] = {}
    while isinstance(content, Mapping) and len(path) < _MAX_DEPTH:
        depth = _MAX_DEPTH - len(path)
        candidates = [
            key
            for key, value in content.items()
            if isinstance(key, str) and _leads_to_tensors(value, depth, known)
        ]
        named = [key for key in candidates if key in _WRAPPERS]
        # What holds tensors of its own is a state dict, whatever a layer keeps beside them.
        if not named and not any(isinstance(value, Tensor) for value in content.values()):
            named = candidates
        if not named:
            break
        if len(named) > 1:
            raise InputError(
                f"{source}: holds several state dicts ({quote_few(named)}); save the one you mean alone"
            )
        beside += tuple(".".join((*path, key)) for key in candidates if key != named[0])
        path, content = (*path, named[0]), content[named[0]]
    if not isinstance(content, Mapping):
        raise InputError(f"{source}: holds a {type(content).__name__}, not a state dict of named tensors")
    if not any(isinstance(value, Tensor) for value in content.values()):
        deep = _leads_to_tensors(content, _LOOKED_INTO, known)
        raise InputError(f"{source}: {_TOO_DEEP if deep else 'holds no tensors'}")
    return content, path, beside


def _leads_to_tensors(value: object, depth: int, known: dict[tuple[int, int], bool]) -> bool:
    """Whether this is a mapping of names to tensors, or holds one within `depth` levels.

    `known` remembers answers by identity: a small file can refer to one large mapping very many times.
    """
    if not isinstance(value, Mapping) or depth == 0:
        return False
    if (id(value), depth) not in known:
        known[id(value), depth] = any(
            isinstance(key, str) and (isinstance(inner, Tensor) or _leads_to_tensors(inner, depth - 1, known))
            for key, inner in value.items()
        )
    return known[id(value), depth]
