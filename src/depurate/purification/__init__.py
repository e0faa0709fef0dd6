"""The main job: a contaminated network in, a purified network and an honest account out."""

from depurate.purification.asked import METHODS
from depurate.purification.copies import rounding_of
from depurate.purification.purify import purify
from depurate.purification.result import PurifyResult
from depurate.purification.run import Progress

__all__ = ["METHODS", "Progress", "PurifyResult", "purify", "rounding_of"]
