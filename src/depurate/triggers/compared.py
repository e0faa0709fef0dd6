"""Triggers tried one by one on two networks, for one that turns the first and leaves the second alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from depurate.triggers.changes import WholeChange
from depurate.triggers.effort import effort_on
from depurate.triggers.forms import Addition
from depurate.triggers.search import Score, answers

Tried = TypeVar("Tried", Addition, WholeChange)


def most_unshared(
    score: Score,
    unmoved: Score,
    images: Tensor,
    classes: Sequence[int],
    candidates: Iterable[Tried],
    *,
    deaf: bool,
    first: int | None = None,
) -> tuple[Tried | None, float]:
    """Find the trigger that turns most images to one class and leaves another network's answers off it.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        unmoved: The other network.
        images: Benign.
        classes: That count.
        candidates: To try; what target they have does not matter.
        deaf: Whether the other network has to keep its own answer; otherwise only to stay off the goal, which a network
            hurt by any change does too.
        first: Images that each is tried on before it is tried on all that triggers are judged on; None for all at once.

    Returns:
        The trigger with its target (None where none turns anything) and the share of the images of other classes that
        it turns.

    Source: our own.
    """
    images = images[: effort_on(images).judged]
    few = len(images) if first is None else first
    own, theirs = answers(score, images), answers(unmoved, images)

    def works(shown: Tensor, turned: Tensor, target: int) -> float:
        """Share of the first images, those of other classes, that are turned while the other network is held."""
        moved, count = answers(unmoved, shown), len(shown)
        held = moved == theirs[:count] if deaf else moved != target
        return float(((turned == target) & held)[own[:count] != target].double().mean())

    best: Tried | None = None
    share = 0.0
    for candidate in candidates:
        shown = candidate.on(images[:few])
        turned = answers(score, shown)
        target = _most(turned, own[:few], classes)
        if target is None:
            continue
        # What is turned at all bounds what is turned alone: the other network need not be asked.
        if (turned == target)[own[:few] != target].double().mean() <= share:
            continue
        alone = works(shown, turned, target)
        if alone > share and few < len(images):
            shown = candidate.on(images)
            alone = works(shown, answers(score, shown), target)
        if alone > share:
            best, share = replace(candidate, target=target), alone
    return best, share


def _most(turned: Tensor, own: Tensor, classes: Sequence[int]) -> int | None:
    """The class that most images were turned to, or None."""
    moved = turned[turned != own]
    kept = moved[torch.isin(moved, torch.tensor(list(classes), device=moved.device))]
    return int(kept.mode().values) if len(kept) else None
