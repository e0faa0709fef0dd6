"""Before and after recovery: noise analysis, agreement on benign images, the account of each layer, failure signs."""

from depurate.analysis.agreement import compare, logits, read_scores, scored_by
from depurate.analysis.amended import after_repair, brought_up, with_mended
from depurate.analysis.layers import describe
from depurate.analysis.noise import TensorFinding, inspect_state
from depurate.analysis.signatures import same_anchor, thin_ground, unlike_training, unrelated_anchor

__all__ = [
    "TensorFinding",
    "after_repair",
    "brought_up",
    "compare",
    "describe",
    "inspect_state",
    "logits",
    "read_scores",
    "same_anchor",
    "scored_by",
    "thin_ground",
    "unlike_training",
    "unrelated_anchor",
    "with_mended",
]
