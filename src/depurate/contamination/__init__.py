"""Contamination of known kind and amount, drawn from a seed: sparse noise with any law, and backdoor attacks."""

from depurate.contamination.attacks import BadNets
from depurate.contamination.laws import Cauchy, Constant, Gaussian, Law, Uniform
from depurate.contamination.sparse import Contaminated, contaminate

__all__ = [
    "BadNets",
    "Cauchy",
    "Constant",
    "Contaminated",
    "Gaussian",
    "Law",
    "Uniform",
    "contaminate",
]
