"""The decision whether a class is suspiciously easy to trigger, from the sizes of the triggers found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.triggers.forms import Addition, Trigger
from depurate.triggers.search import Search, Step, find_additions, find_patches

Score = Callable[[Tensor], Tensor]
# A class is suspicious when its smallest trigger is under half the median of the others, and 2 deviations below it.
_SHARE = 0.5
_DEVIATIONS = 2.0
# Lengths of additions, in ranges of the pixel values; the least at which one works on 90 % is looked for.
_RADII = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_WORKS = 0.9
_RARE = 0.4


@dataclass(frozen=True)
class Screening:
    """What the search for triggers found.

    Attributes:
        classes: Searched.
        sizes: Of the smallest patch that triggers each class, in pixels; infinite where none was found.
        flagged: Classes that are suspiciously easy to trigger.
        triggers: Found for the flagged classes.
    """

    classes: tuple[int, ...]
    sizes: tuple[float, ...]
    flagged: tuple[int, ...]
    triggers: tuple[Trigger, ...]

    @property
    def usual(self) -> float:
        """Median size over the classes that are not flagged."""
        others = [s for c, s in zip(self.classes, self.sizes, strict=True) if c not in self.flagged]
        return float(torch.tensor(others).median()) if others else float("inf")


def screen(
    score: Score, images: Tensor, classes: Sequence[int], search: Search, progress: Step | None = None
) -> Screening:
    """Search for a trigger of every class and flag the classes that need far less than the others.

    A backdoor is a short cut: its class is reached with a change much smaller than any other class takes. Patches are
    judged by their size; where none stands out, additions are searched for, and judged by how often one length works.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        classes: To search for, at least three.
        search: How long.
        progress: Called with (steps done, steps in all) of the longer part.

    Returns:
        The sizes, the flagged classes and their triggers.

    Source: Wang et al., Neural Cleanse, IEEE S&P 2019 (outliers among classes).
    """
    patches = find_patches(score, images, classes, search, progress)
    worked = success(score, images, patches)
    sizes = [p.size if share > 0.5 else float("inf") for p, share in zip(patches, worked, strict=True)]
    small = [place for place, stands_out in enumerate(outliers(sizes)) if stands_out]
    chosen = small or _easy(score, images, classes, replace(search, steps=search.steps // 4))
    return Screening(
        tuple(classes),
        tuple(sizes),
        tuple(classes[place] for place in chosen),
        tuple(patches[place] for place in small),
    )


def _easy(score: Score, images: Tensor, classes: Sequence[int], search: Search) -> list[int]:
    """Places of the classes that an addition reaches at a length at which most classes are out of reach."""
    rates = success(score, images, shortest_additions(score, images, classes, search))
    if sorted(rates)[len(rates) // 2] > _RARE:
        return []
    return [place for place, rate in enumerate(rates) if rate >= _WORKS]


def outliers(sizes: Sequence[float]) -> list[bool]:
    """Mark the sizes that are far smaller than the others.

    size < median/2 and (median − size) / (1.4826·MAD) > 2, median and MAD over the finite sizes.

    Args:
        sizes: One a class; infinite counts as large.

    Returns:
        One mark a size.

    >>> outliers([6.5, 53.4, 42.9, 53.3, 38.5])
    [True, False, False, False, False]
    >>> outliers([45.6, 74.4, 128.5, 53.8, 111.9])
    [False, False, False, False, False]
    """
    if len(sizes) < 3:
        return [False] * len(sizes)
    ordered = torch.tensor([*sizes], dtype=torch.float64)
    median = ordered.median()
    if not bool(median.isfinite()):
        return [False] * len(sizes)
    spread = 1.4826 * (ordered - median).abs().median()
    return [
        bool(value < _SHARE * median) and bool(median - value > _DEVIATIONS * spread) for value in ordered
    ]


def shortest_additions(
    score: Score, images: Tensor, classes: Sequence[int], search: Search
) -> tuple[Addition, ...]:
    """Find additions of the shortest length, among doublings, at which one of the classes is reached on 90 %."""
    shorter, longer = 0, len(_RADII)
    found: tuple[Addition, ...] = ()
    tried = found
    # What works at one length works at every greater one, so halving finds the least in three searches of six.
    while shorter < longer:
        middle = (shorter + longer) // 2
        tried = find_additions(score, images, classes, search, _RADII[middle])
        if max(success(score, images, tried)) >= _WORKS:
            found, longer = tried, middle
        else:
            shorter = middle + 1
    return found or tried


def success(score: Score, images: Tensor, triggers: Sequence[Trigger], at_most: int = 128) -> list[float]:
    """Share of images of other classes that each trigger turns to its target, on the first images."""
    images = images[:at_most]
    with torch.no_grad():
        before = score(images).argmax(1)
        shares = []
        for trigger in triggers:
            others = before != trigger.target
            answers = score(trigger.on(images)).argmax(1)
            shares.append(float((answers[others] == trigger.target).double().mean()) if others.any() else 0.0)
    return shares
