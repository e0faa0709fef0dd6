"""The main job: a contaminated network in, a purified network and an honest account out."""

from depurate.purification.purify import METHODS, purify
from depurate.purification.result import PurifyResult

__all__ = ["METHODS", "PurifyResult", "purify"]
