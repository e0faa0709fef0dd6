"""Recovery of contaminated layers: exact (l1 on a span), soft (closed form), robust (hit entries), the walk."""

from depurate.recovery.anchors import anchor_kernels
from depurate.recovery.batchnorm import batch_statistics, read_statistics, renew_statistics
from depurate.recovery.contradicted import contradicted, mend_contradicted
from depurate.recovery.entries import certain_hits, hit_kernels, hit_statistics, is_mask
from depurate.recovery.exact import ExactFit, exact_recovery
from depurate.recovery.lesson import Lesson
from depurate.recovery.levels import Rounding, rounding_for
from depurate.recovery.looks import FirstLook, first_look
from depurate.recovery.lost_vectors import lost_vectors
from depurate.recovery.outcome import LayerOutcome
from depurate.recovery.outputs import StrongOutputs, limit_outputs, strong_outputs
from depurate.recovery.recipe import Recipe
from depurate.recovery.records import (
    Agreement,
    Guarantee,
    Guessed,
    Histogram,
    LayerRecord,
    NoiseEstimate,
    PurifyRecord,
    Spectrum,
    Trial,
    TriggerSearch,
)
from depurate.recovery.refit import Refit, refit
from depurate.recovery.robust import Repair, repair_entries
from depurate.recovery.scales import Vector, doubted_vectors, repair_scales, replaced_scales
from depurate.recovery.settle import settle
from depurate.recovery.soft import soft_recovery
from depurate.recovery.surety import Surety, information
from depurate.recovery.unflip import unflip_vector
from depurate.recovery.walk import walk
from depurate.recovery.weighing import weigh
from depurate.recovery.witness import Strain, own_strains

__all__ = [
    "Agreement",
    "ExactFit",
    "FirstLook",
    "Guarantee",
    "Guessed",
    "Histogram",
    "LayerOutcome",
    "LayerRecord",
    "Lesson",
    "NoiseEstimate",
    "PurifyRecord",
    "Recipe",
    "Refit",
    "Repair",
    "Rounding",
    "Spectrum",
    "Strain",
    "StrongOutputs",
    "Surety",
    "Trial",
    "TriggerSearch",
    "Vector",
    "anchor_kernels",
    "batch_statistics",
    "certain_hits",
    "contradicted",
    "doubted_vectors",
    "exact_recovery",
    "first_look",
    "hit_kernels",
    "hit_statistics",
    "information",
    "is_mask",
    "limit_outputs",
    "lost_vectors",
    "mend_contradicted",
    "own_strains",
    "read_statistics",
    "refit",
    "renew_statistics",
    "repair_entries",
    "repair_scales",
    "replaced_scales",
    "rounding_for",
    "settle",
    "soft_recovery",
    "strong_outputs",
    "unflip_vector",
    "walk",
    "weigh",
]
