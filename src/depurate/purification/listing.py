"""Names in a sentence: a few of them, however many there are."""

from __future__ import annotations

from collections.abc import Iterable

_SHOWN = 3


def first_names(names: Iterable[str]) -> str:
    """The first three names, and a sign that there are more.

    >>> first_names("ab"), first_names("abcd")
    ('a, b', 'a, b, c, ...')
    """
    listed = [*names]
    return ", ".join(listed[:_SHOWN]) + (", ..." if len(listed) > _SHOWN else "")
