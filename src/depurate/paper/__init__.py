"""The one-hidden-layer convolutional network whose recovery is proved: its training, contamination and recovery."""

from depurate.paper.alternating import AlternatingRecovery, Round, recover_alternating
from depurate.paper.network import PatchNetwork
from depurate.paper.noise import contaminate_network
from depurate.paper.patches import disjoint_patches
from depurate.paper.recovery import PaperRecovery, RelativeErrors, recover, relative_errors
from depurate.paper.threshold import adversarial_limit, descent_dimension, l1_threshold
from depurate.paper.training import Trained, train
from depurate.paper.undo import Undone, undo

__all__ = [
    "AlternatingRecovery",
    "PaperRecovery",
    "PatchNetwork",
    "RelativeErrors",
    "Round",
    "Trained",
    "Undone",
    "adversarial_limit",
    "contaminate_network",
    "descent_dimension",
    "disjoint_patches",
    "l1_threshold",
    "recover",
    "recover_alternating",
    "relative_errors",
    "train",
    "undo",
]
