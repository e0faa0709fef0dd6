"""Depurate purifies contaminated neural networks.

A suspect checkpoint and a few hundred unlabelled clean images in, a purified checkpoint and an honest account out.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from depurate.errors import InputError
    from depurate.purification import PurifyResult, purify
    from depurate.recovery import Agreement, Guarantee, LayerRecord, PurifyRecord
    from depurate.solver import Solution, lad

__all__ = [
    "Agreement",
    "Guarantee",
    "InputError",
    "LayerRecord",
    "PurifyRecord",
    "PurifyResult",
    "Solution",
    "lad",
    "purify",
]

_HOMES = {
    "depurate.errors": ("InputError",),
    "depurate.purification": ("PurifyResult", "purify"),
    "depurate.recovery": ("Agreement", "Guarantee", "LayerRecord", "PurifyRecord"),
    "depurate.solver": ("Solution", "lad"),
}


def __getattr__(name: str) -> Any:
    # Public names load on first use: torch takes seconds, and `depurate --help` should not wait for it.
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'depurate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
