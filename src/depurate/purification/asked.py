"""What `purify` is asked for, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.parameter import is_lazy

from depurate.errors import InputError

METHODS = ("auto", "exact", "soft", "robust")


def check_networks(model: object, anchor: object) -> None:
    """Check that there is a network with values in its tensors, and that an anchor is one or the state of one.

    Raises:
        InputError: One of them is something else.

    >>> check_networks(nn.Linear(2, 1).state_dict(), None)
    Traceback (most recent call last):
    depurate.errors.InputError: model: expected a network (nn.Module) that holds its weights, got OrderedDict
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model: expected a network (nn.Module) that holds its weights, got {type(model).__name__}"
        )
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise InputError("model: has lazy layers without shapes; run it once on an image first")
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise InputError("model: was made on the meta device, without values; make it on the CPU")
    if not isinstance(anchor, nn.Module | Mapping | None):
        raise InputError(f"anchor: expected a network, a state dict or None, got {type(anchor).__name__}")


def check_settings(method: str, strength: float | None, *, distil: bool) -> None:
    """Check settings that can be told wrong without the network.

    Raises:
        InputError: One of them cannot be used, or not with this method.

    >>> check_settings("exact", 0.1, distil=False)
    Traceback (most recent call last):
    depurate.errors.InputError: strength: 0.1 given, but the exact method has none; use method soft or auto
    """
    if method not in METHODS:
        raise InputError(f"method: {method!r}; expected one of {', '.join(METHODS)}")
    if strength is not None and not 0 < strength < float("inf"):
        raise InputError(f"strength: {strength}; expected a number over 0, such as 0.1")
    if strength is not None and method in ("exact", "robust"):
        raise InputError(
            f"strength: {strength} given, but the {method} method has none; use method soft or auto"
        )
    if distil and method != "auto":
        raise InputError(
            f"distil: the {method} method looks for no triggers to teach away; use method auto, or leave it out"
        )
