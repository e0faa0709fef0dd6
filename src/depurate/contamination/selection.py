"""Which tensors of a checkpoint are meant: globs over their names."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from depurate.errors import InputError


def selected(names: Iterable[str], layers: str) -> tuple[str, ...]:
    """Select names by globs, separated by commas; a glob that starts with `!` takes names away again.

    Args:
        names: To choose from.
        layers: Such as `*`, `layer4.*,fc.weight` or `*,!*running*`.

    Returns:
        The names selected, in the order given.

    Raises:
        InputError: None is, or there are none.

    >>> selected(["conv.weight", "conv.bias", "fc.weight"], "*.weight,!fc.*")
    ('conv.weight',)
    """
    given, chosen = list(names), set[str]()
    for glob in filter(None, map(str.strip, layers.split(","))):
        found = {name for name in given if fnmatchcase(name, glob.removeprefix("!"))}
        chosen = chosen - found if glob.startswith("!") else chosen | found
    if not given:
        raise InputError("there are no floating-point tensors to choose from: dequantise them first")
    if not chosen:
        shown = ", ".join(given[:5]) + (", ..." if len(given) > 5 else "")
        raise InputError(f"layers: {layers!r} selects none of the floating-point tensors ({shown})")
    return tuple(name for name in given if name in chosen)
