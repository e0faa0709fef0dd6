"""What the middles of large pictures made suspicious, looked for in the whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor

from depurate.triggers.effort import effort_on
from depurate.triggers.evidence import Screening, Subject, flagged, sizes_of
from depurate.triggers.forms import Trigger
from depurate.triggers.search import Score, Search, success


class Find(Protocol):
    """A search for one trigger a goal."""

    def __call__(
        self, score: Score, images: Tensor, goals: Sequence[int], search: Search, /
    ) -> tuple[Trigger, ...]: ...


def in_whole(
    subject: Subject,
    found: Screening,
    find: Find,
    sizes: Mapping[int, float],
    judge: Callable[[Sequence[float]], list[bool]],
    power: int,
) -> Screening:
    """Search again, in the whole images and for what is flagged, and drop the flags of what does not stand out there.

    Args:
        subject: What is searched; where no middles are shown nothing is left to do.
        found: With what the middles flagged.
        find: How triggers of this form are found.
        sizes: By goal, in the middles, of all that `judge` compares.
        judge: Marks the sizes that stand out, one a goal in the order of `sizes`.
        power: Of the side that sizes grow with: 2 for areas, 1 for lengths.

    Returns:
        What is still flagged, with triggers for whole images.
    """
    if subject.side is None or not found.flagged:
        return found
    height, width = subject.images.shape[2:]
    shrunk = (subject.side**2 / (height * width)) ** (power / 2)
    # A few goals leave time for more images than all of them did.
    search = replace(subject.search, images=effort_on(subject.images).more * subject.search.images)
    triggers = find(subject.score, subject.images, found.flagged, search)
    measured = sizes_of(triggers, success(subject.score, subject.images, triggers), float("inf"))
    again = {trigger.target: shrunk * size for trigger, size in zip(triggers, measured, strict=True)}
    compared = {goal: again.get(goal, size) for goal, size in sizes.items()}
    stands_out = dict(zip(compared, judge([*compared.values()]), strict=True))
    return flagged(found, (trigger for trigger in triggers if stands_out[trigger.target]), found.evidence)
