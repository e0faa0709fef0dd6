"""Prefixes that wrappers put before the names of a network's tensors, and names that meet in spite of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

_PREFIXES = ("module.", "_orig_mod.")
# Parts of a name that can stand before those of the network; hostile names have very many.
_DEEPEST = 4
# Share of the names that a beginning stands before, where others beside the network are kept with it.
_MOST = 0.5


def common_prefix(keys: Iterable[str]) -> str:
    """Find the prefix that DataParallel and torch.compile put before every key, if any.

    >>> common_prefix(["module._orig_mod.fc.weight", "module._orig_mod.fc.bias"])
    'module._orig_mod.'
    >>> common_prefix(["module.fc.weight", "head.weight"])
    ''
    """
    names, prefix = list(keys), ""
    while names:
        found = next((p for p in _PREFIXES if all(name.startswith(prefix + p) for name in names)), None)
        if found is None:
            break
        prefix += found
    return prefix


def meet(keys: Collection[str], wanted: Collection[str]) -> dict[str, str]:
    """Name the entries of a file as a network does, where one of the two has something around the network.

    DataParallel puts `module.` before all names, Lightning the attribute that its module keeps the network in, beside
    what else it keeps. What most names of the file, or all of the network, begin with is removed or added where more
    names meet by it.

    Args:
        keys: Names in the file.
        wanted: Names in the network.

    Returns:
        The name in the network of every key; of a key that the network lacks, one that it lacks, too.

    >>> meet(["model.fc.weight"], ["fc.weight"]), meet(["fc.weight"], ["module.fc.weight"])
    ({'model.fc.weight': 'fc.weight'}, {'fc.weight': 'module.fc.weight'})
    """
    targets = set(wanted)
    # The first of several that fit equally: names are left as they are where nothing is won.
    around = dict.fromkeys(("", common_prefix(keys), *_shared(keys, _MOST)))
    named = (
        {key: added + key.removeprefix(removed) for key in keys}
        for added in ("", *_shared(targets, 1.0))
        for removed in around
    )
    # Two names must not become one.
    apart = (names for names in named if len(set(names.values())) == len(names))
    return max(apart, key=lambda names: len(targets & set(names.values())))


def _shared(names: Collection[str], least: float) -> list[str]:
    """Every beginning, up to one of the first dots, that at least such a share of the names has."""
    parts = (name.split(".", _DEEPEST) for name in names)
    found = Counter(".".join(part[:length]) + "." for part in parts for length in range(1, len(part)))
    return [some for some, count in found.items() if count >= least * len(names)]
