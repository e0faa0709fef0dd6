"""Quotes text out of untrusted files so that it can stand in a one-line message."""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 120


def quote(text: str) -> str:
    r"""Return the text itself where it is short and printable, otherwise cut and with escapes.

    >>> quote("fc.weight")
    'fc.weight'
    >>> quote("two\nlines \x1b[31m")
    'two\\nlines \\x1b[31m'
    """
    cut = text if len(text) <= _LONGEST else text[:_LONGEST] + "..."
    return cut if cut.isprintable() else repr(cut)[1:-1]


def quote_few(names: Iterable[str], most: int = 5) -> str:
    """List the first few names, quoted, with the number of the others.

    >>> quote_few(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    listed = list(names)
    shown = ", ".join(quote(name) for name in listed[:most])
    return shown if len(listed) <= most else f"{shown} and {len(listed) - most} more"
