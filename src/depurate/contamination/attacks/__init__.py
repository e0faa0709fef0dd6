"""Backdoor attacks on training data, one a file."""

from depurate.contamination.attacks.badnets import BadNets

__all__ = ["BadNets"]
