"""Depurate purifies contaminated neural networks.

A suspect checkpoint and a few hundred unlabelled clean images in, a purified checkpoint and an honest account out.
"""

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
