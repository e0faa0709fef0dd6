"""Names of tensors in a state dict."""

from __future__ import annotations


def key_of(module: str, part: str) -> str:
    """The key of a module's tensor; a network that is one bare layer calls itself "".

    >>> key_of("fc", "weight"), key_of("", "weight")
    ('fc.weight', 'weight')
    """
    return f"{module}.{part}" if module else part
