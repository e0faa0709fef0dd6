"""Acquire and write: checkpoints, architectures and images from files that nobody vouches for."""

from depurate.checkpoints.architectures import load_architecture
from depurate.checkpoints.checkpoint import Checkpoint
from depurate.checkpoints.images import Images, is_array, read_images, read_labelled
from depurate.checkpoints.loading import load_state
from depurate.checkpoints.normalisation import Normalisation, parse_normalize
from depurate.checkpoints.provenance import file_sha256, provenance
from depurate.checkpoints.reading import read_checkpoint
from depurate.checkpoints.screening import nonfinite_entries
from depurate.checkpoints.storing import store_tensors
from depurate.checkpoints.writing import check_output, write_checkpoint

__all__ = [
    "Checkpoint",
    "Images",
    "Normalisation",
    "check_output",
    "file_sha256",
    "is_array",
    "load_architecture",
    "load_state",
    "nonfinite_entries",
    "parse_normalize",
    "provenance",
    "read_checkpoint",
    "read_images",
    "read_labelled",
    "store_tensors",
    "write_checkpoint",
]
