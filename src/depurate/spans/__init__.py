"""Design matrices and second moments from the activations of a network."""

from .geometry import Geometry, geometry_of, read_kernels, write_kernels
from .moments import Moments, Sampling, measure
from .sites import BATCH_NORMS, Site, find_sites, run_to

__all__ = [
    "BATCH_NORMS",
    "Geometry",
    "Moments",
    "Sampling",
    "Site",
    "find_sites",
    "geometry_of",
    "measure",
    "read_kernels",
    "run_to",
    "write_kernels",
]
