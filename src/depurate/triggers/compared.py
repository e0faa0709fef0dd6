"""Triggers tried one by one on two networks, for one that turns the first and leaves the second alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor

from depurate.triggers.changes import WholeChange
from depurate.triggers.effort import effort_on
from depurate.triggers.forms import Addition
from depurate.triggers.search import Score, answers

Tried = TypeVar("Tried", Addition, WholeChange)


@dataclass(frozen=True)
class Unshared(Generic[Tried]):
    """The trigger of a family that turns one network most and leaves another alone.

    Attributes:
        trigger: With its target; None where none turns anything.
        share: Of the images of other classes that it turns while the other network is held.
        elsewhere: The largest share that a trigger of the family turns to another class while the other is held.
    """

    trigger: Tried | None
    share: float = 0.0
    elsewhere: float = 0.0


def most_unshared(
    score: Score,
    unmoved: Score | None,
    images: Tensor,
    classes: Sequence[int],
    candidates: Iterable[Tried],
    *,
    deaf: bool,
    first: int | None = None,
    beyond: float = 0.0,
) -> Unshared[Tried]:
    """Find the trigger that turns most images to one class and leaves another network's answers off it.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        unmoved: The other network; None for none, so that all that are turned count.
        images: Benign.
        classes: That count.
        candidates: To try; what target they have does not matter.
        deaf: Whether the other network has to keep its own answer; otherwise only to stay off the goal, which a network
            hurt by any change does too.
        first: Images that each is tried on before it is tried on all that triggers are judged on; None for all at once.
        beyond: Shares of no more than this are not looked at further, and count as nothing.

    Returns:
        The trigger and how it works.

    Source: our own.
    """
    images = images[: effort_on(images).judged]
    few = len(images) if first is None else first
    own = answers(score, images)
    theirs = None if unmoved is None else answers(unmoved, images)

    def alone(shown: Tensor, turned: Tensor, target: int, before: float) -> float:
        """Share of the first images, those of other classes, that are turned while the other network is held."""
        count, reached = len(shown), turned == target
        others = own[:count] != target
        # What is turned at all bounds what is turned alone: the other network need not be asked.
        share = _share(reached, others)
        if share <= before or unmoved is None or theirs is None:
            return share
        moved = answers(unmoved, shown)
        held = moved == theirs[:count] if deaf else moved != target
        return _share(reached & held, others)

    best: dict[int, Unshared[Tried]] = {}
    for candidate in candidates:
        shown = candidate.on(images[:few])
        turned = answers(score, shown)
        target = _most(turned, own[:few], classes)
        if target is None:
            continue
        before = best[target].share if target in best else beyond
        share = alone(shown, turned, target, before)
        if share > before and few < len(images):
            shown = candidate.on(images)
            share = alone(shown, answers(score, shown), target, before)
        if share > before:
            best[target] = Unshared(replace(candidate, target=target), share)
    if not best:
        return Unshared(None)
    found, *others = sorted(best.values(), key=lambda one: -one.share)
    return replace(found, elsewhere=others[0].share if others else 0.0)


def _share(marks: Tensor, among: Tensor) -> float:
    return float(marks[among].double().mean())


def _most(turned: Tensor, own: Tensor, classes: Sequence[int]) -> int | None:
    """The class that most images were turned to, or None."""
    moved = turned[turned != own]
    kept = moved[torch.isin(moved, torch.tensor(list(classes), device=moved.device))]
    return int(kept.mode().values) if len(kept) else None
