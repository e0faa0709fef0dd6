"""Design matrices and second moments from the activations of a network."""

from depurate.spans.basis import Span, span_of
from depurate.spans.calls import shown
from depurate.spans.derived import geometry_on
from depurate.spans.geometry import Geometry, geometry_of, read_kernels, write_kernels
from depurate.spans.modes import plain_modes
from depurate.spans.moments import Moments, Sampling, measure, measure_passes, measure_whole
from depurate.spans.naming import key_of
from depurate.spans.parametrised import parametrised_layers, told_parametrised
from depurate.spans.passes import Passes
from depurate.spans.sites import BATCH_NORMS, Site, find_sites, run_to

__all__ = [
    "BATCH_NORMS",
    "Geometry",
    "Moments",
    "Passes",
    "Sampling",
    "Site",
    "Span",
    "find_sites",
    "geometry_of",
    "geometry_on",
    "key_of",
    "measure",
    "measure_passes",
    "measure_whole",
    "parametrised_layers",
    "plain_modes",
    "read_kernels",
    "run_to",
    "shown",
    "span_of",
    "told_parametrised",
    "write_kernels",
]
