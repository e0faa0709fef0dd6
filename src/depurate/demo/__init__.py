"""The whole path on real data that ships with scikit-learn."""

from depurate.demo.backdoor import ATTACK, Backdoored, Rates, purify_backdoored, rates, train_backdoored
from depurate.demo.digits import Digits, read_digits
from depurate.demo.exact import ExactDemo, run_exact

__all__ = [
    "ATTACK",
    "Backdoored",
    "Digits",
    "ExactDemo",
    "Rates",
    "purify_backdoored",
    "rates",
    "read_digits",
    "run_exact",
    "train_backdoored",
]
