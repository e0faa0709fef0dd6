"""Before and after recovery: agreement on benign images, the account of each layer, failure signatures."""

from depurate.analysis.agreement import compare, logits
from depurate.analysis.layers import describe
from depurate.analysis.signatures import thin_ground, unlike_training, unrelated_anchor

__all__ = ["compare", "describe", "logits", "thin_ground", "unlike_training", "unrelated_anchor"]
