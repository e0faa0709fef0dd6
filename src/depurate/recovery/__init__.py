"""Recovery of contaminated layers: exact (l1 on a span), soft (closed form), and the walk through a network."""

from depurate.recovery.batchnorm import batch_statistics
from depurate.recovery.entries import certain_hits, hit_kernels, hit_statistics
from depurate.recovery.exact import ExactFit, exact_recovery
from depurate.recovery.records import (
    Agreement,
    Guarantee,
    Histogram,
    LayerRecord,
    PurifyRecord,
    Spectrum,
    Trial,
)
from depurate.recovery.refit import Refit, refit
from depurate.recovery.soft import soft_recovery
from depurate.recovery.walk import LayerOutcome, Recipe, walk

__all__ = [
    "Agreement",
    "ExactFit",
    "Guarantee",
    "Histogram",
    "LayerOutcome",
    "LayerRecord",
    "PurifyRecord",
    "Recipe",
    "Refit",
    "Spectrum",
    "Trial",
    "batch_statistics",
    "certain_hits",
    "exact_recovery",
    "hit_kernels",
    "hit_statistics",
    "refit",
    "soft_recovery",
    "walk",
]
