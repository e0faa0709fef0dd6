"""Lessons that teach a trigger away: the same images with and without it, and moved copies to hold the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from depurate.purification.latest import Latest
from depurate.recovery import Lesson
from depurate.triggers import Score, Trigger, answers, turned

# Moves of the copies, in pixels; wider images take proportionally wider ones.
_MOVES = ((2, -1), (-1, 2))
_MOVES_FOR = 32
# A move that turns more of the images than this is a trigger itself. Eight backdoored networks change up to 16 % of
# their answers for it and up to 3 % to the target; a ninth, poisoned with warps, 87 %.
_TURNED = 0.2
# Numbers in all copies together, at most: of large pictures each copy is made of every k-th batch only. A quarter of
# the copies gave the same figures (ResNet-14 at strength 0.1: 82.6/3.4 with all, 82.5/3.2 with a quarter).
_MOST_NUMBERS = 1 << 25
# But of so many images at least.
_FEWEST_COPIES = 32


def counter_lesson(
    batches: list[Tensor],
    triggers: Sequence[Trigger],
    share: float = 1.0,
    score: Score | None = None,
    latest: Latest | None = None,
) -> Lesson:
    """Show images as they are, moved a little, and with each trigger; want the suspect's outputs without triggers.

    The moved copies are answered as the suspect answers them: they keep its behaviour in more directions than the
    images alone span. A move can be a trigger, too (a network poisoned with warps answers the target to nearly all
    moved images): where it is, the copies that it turns to where a trigger leads would teach the backdoor and are
    left out. BatchNorm statistics are taken from the images alone.

    Args:
        batches: Benign images, each of shape (n, c, h, w).
        triggers: To teach away.
        share: Of the images that carry each trigger; other images for each, where it is under 1.
        score: The suspect, images to scores; None keeps all moved copies.
        latest: Where to find the moved copies if the lesson before had the same: of images that are still there.

    Returns:
        The lesson.

    Example:
        >>> from depurate.triggers import Patch
        >>> patch = Patch(0, torch.ones(1, 4, 4), torch.ones(1, 4, 4))
        >>> lesson = counter_lesson([torch.zeros(2, 1, 4, 4)], [patch])
        >>> [float(batch.mean()) for batch in lesson.shown], len(lesson.meant), sorted(lesson.artificial)
        ([0.0, 0.0, 0.0, 1.0], 4, [1, 2, 3])
    """
    every = _stride(batches, len(_MOVES) + len(triggers))
    parts = [batches[start % every :: every] for start in range(len(_MOVES) + len(triggers))]
    goals = sorted({trigger.target for trigger in triggers})
    asked = None if score is None else cache(partial(answers, score))  # most batches are moved more than once
    latest = latest or Latest()
    moved = [
        copy
        for move, part in zip(_MOVES, parts, strict=False)
        for copy in latest.of(move, (*goals, *map(_where, part)), partial(_copies, part, move, goals, asked))
    ]
    taught = _carrying(parts[len(_MOVES) :], triggers, share)
    shown = [*batches, *moved, *(carrying for _, _, carrying in taught)]
    meant = [*batches, *moved, *(plain for _, plain, _ in taught)]
    return Lesson(shown, meant, frozenset(range(len(batches), len(shown))))


def with_triggers(batches: list[Tensor], triggers: Sequence[Trigger]) -> list[tuple[Trigger, Tensor, Tensor]]:
    """Put each trigger on all benign images, or on every k-th batch where pictures are large.

    Args:
        batches: Benign images, each of shape (n, c, h, w).
        triggers: Any.

    Returns:
        The trigger, a batch as it is and the same with the trigger, for every trigger and batch.
    """
    every = _stride(batches, len(triggers))
    return _carrying([batches[start % every :: every] for start in range(len(triggers))], triggers, 1.0)


def _carrying(
    parts: list[list[Tensor]], triggers: Sequence[Trigger], share: float
) -> list[tuple[Trigger, Tensor, Tensor]]:
    """The share of each trigger's batches that carries it, without it and with it."""
    return [
        (trigger, batch, trigger.on(batch))
        for start, (trigger, part) in enumerate(zip(triggers, parts, strict=True))
        for batch in _spread(part, share, start)
    ]


def _spread(batches: list[Tensor], share: float, start: int) -> list[Tensor]:
    """A share of the images, evenly spread over the batches."""
    if share >= 1:
        return batches
    every, before, kept = round(1 / share), start, []
    for batch in batches:
        kept.append(batch[-before % every :: every])
        before += len(batch)
    return [batch for batch in kept if len(batch)]


def _stride(batches: list[Tensor], kinds: int) -> int:
    numbers = kinds * sum(batch.numel() for batch in batches)
    images = sum(len(batch) for batch in batches)
    most = min(len(batches), images // _FEWEST_COPIES)
    return max(1, min(most, -(-numbers // _MOST_NUMBERS)))


def _copies(
    batches: list[Tensor],
    move: tuple[int, int],
    goals: Sequence[int],
    asked: Callable[[Tensor], Tensor] | None,
) -> list[Tensor]:
    """Moved copies, without those that the move turns to a goal if it turns many."""
    copies = [_moved(batch, move) for batch in batches]
    if asked is None:
        return copies
    pairs = zip(batches, copies, strict=True)
    turns = [turned(asked(copy), goals, asked(batch)) for batch, copy in pairs]
    often = torch.cat(turns, 1).double().mean(1, keepdim=True) > _TURNED
    left = (copy[~(turn & often).any(0)] for copy, turn in zip(copies, turns, strict=True))
    return [copy for copy in left if len(copy)]


def _where(batch: Tensor) -> tuple[int, int]:
    """What tells a batch from others of the same images."""
    return batch.data_ptr(), len(batch)


def _moved(batch: Tensor, move: tuple[int, int]) -> Tensor:
    scale = max(1, min(batch.shape[2:]) // _MOVES_FOR)
    return torch.roll(batch, (scale * move[0], scale * move[1]), (2, 3))
