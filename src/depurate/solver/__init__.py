"""Least absolute deviations for many targets on one design, each solution certified."""

from depurate.solver._lad import lad
from depurate.solver._solution import Solution, Status

__all__ = ["Solution", "Status", "lad"]
