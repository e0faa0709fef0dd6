"""Triggers found without labels: what smallest universal change of benign images makes a network answer a class."""

from depurate.triggers.additions import find_additions, shortest_additions
from depurate.triggers.adversarial import Adversarial, adversarial_to, telling
from depurate.triggers.akin import warps_akin
from depurate.triggers.aware import Aware
from depurate.triggers.changes import WholeChange, whole_changes
from depurate.triggers.effort import Effort, effort_on, quickly
from depurate.triggers.evidence import SHARE_OF_ALL, Screening, Subject, clear_answers, outliers
from depurate.triggers.forms import AWAY, Addition, Patch, Trigger, Warp
from depurate.triggers.goals import turned
from depurate.triggers.middles import middle, side_of_middles
from depurate.triggers.narrowing import MOST_CLASSES, likeliest
from depurate.triggers.screening import screen
from depurate.triggers.search import (
    Score,
    Search,
    answers,
    at_once,
    drawn,
    find_aware,
    find_patches,
    find_warps,
    success,
)
from depurate.triggers.slopes import has_slopes
from depurate.triggers.squares import PlainSquare, find_square, scan_squares
from depurate.triggers.waves import find_wave

__all__ = [
    "AWAY",
    "MOST_CLASSES",
    "SHARE_OF_ALL",
    "Addition",
    "Adversarial",
    "Aware",
    "Effort",
    "Patch",
    "PlainSquare",
    "Score",
    "Screening",
    "Search",
    "Subject",
    "Trigger",
    "Warp",
    "WholeChange",
    "adversarial_to",
    "answers",
    "at_once",
    "clear_answers",
    "drawn",
    "effort_on",
    "find_additions",
    "find_aware",
    "find_patches",
    "find_square",
    "find_warps",
    "find_wave",
    "has_slopes",
    "likeliest",
    "middle",
    "outliers",
    "quickly",
    "scan_squares",
    "screen",
    "shortest_additions",
    "side_of_middles",
    "success",
    "telling",
    "turned",
    "warps_akin",
    "whole_changes",
]
