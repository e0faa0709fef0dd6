"""The one-hidden-layer convolutional network whose recovery is proved: its training, contamination and recovery."""

from depurate.paper.network import PatchNetwork
from depurate.paper.noise import contaminate_network
from depurate.paper.patches import disjoint_patches
from depurate.paper.recovery import PaperRecovery, RelativeErrors, recover, relative_errors
from depurate.paper.training import Trained, train

__all__ = [
    "PaperRecovery",
    "PatchNetwork",
    "RelativeErrors",
    "Trained",
    "contaminate_network",
    "disjoint_patches",
    "recover",
    "relative_errors",
    "train",
]
