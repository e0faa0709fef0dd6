"""Triggers found without labels: what smallest universal change of benign images makes a network answer a class."""

from depurate.triggers.forms import Addition, Patch, Trigger
from depurate.triggers.screening import Screening, outliers, screen, shortest_additions, success
from depurate.triggers.search import Search, find_additions, find_patches

__all__ = [
    "Addition",
    "Patch",
    "Screening",
    "Search",
    "Trigger",
    "find_additions",
    "find_patches",
    "outliers",
    "screen",
    "shortest_additions",
    "success",
]
