"""The rivals, one a file, written from their papers with the hyper-parameters published there."""

from depurate.bench.defences.given import Defence
from depurate.bench.defences.rivals.anchor_average import AnchorAverage
from depurate.bench.defences.rivals.anp import AdversarialNeuronPruning
from depurate.bench.defences.rivals.bcu import UnlabelledDistillation
from depurate.bench.defences.rivals.clp import ChannelLipschitzPruning
from depurate.bench.defences.rivals.fine_pruning import FinePruning
from depurate.bench.defences.rivals.fine_tuning import FineTuning
from depurate.bench.defences.rivals.ft_sam import SharpnessAwareFineTuning
from depurate.bench.defences.rivals.ibau import ImplicitUnlearning
from depurate.bench.defences.rivals.low_rank import LowRankSparse
from depurate.bench.defences.rivals.nad import NeuralAttentionDistillation
from depurate.bench.defences.rivals.rnp import ReconstructiveNeuronPruning
from depurate.bench.defences.rivals.robust_reset import RobustReset

RIVALS: dict[str, type[Defence]] = {
    "ft": FineTuning,
    "fp": FinePruning,
    "nad": NeuralAttentionDistillation,
    "anp": AdversarialNeuronPruning,
    "clp": ChannelLipschitzPruning,
    "i-bau": ImplicitUnlearning,
    "ft-sam": SharpnessAwareFineTuning,
    "rnp": ReconstructiveNeuronPruning,
    "bcu": UnlabelledDistillation,
    "reset": RobustReset,
    "low-rank": LowRankSparse,
    "anchor-average": AnchorAverage,
}

__all__ = [
    "RIVALS",
    "AdversarialNeuronPruning",
    "AnchorAverage",
    "ChannelLipschitzPruning",
    "FinePruning",
    "FineTuning",
    "ImplicitUnlearning",
    "LowRankSparse",
    "NeuralAttentionDistillation",
    "ReconstructiveNeuronPruning",
    "RobustReset",
    "SharpnessAwareFineTuning",
    "UnlabelledDistillation",
]
