"""Lessons that teach a trigger away: the same images with and without it, and moved copies to hold the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from depurate.recovery import Lesson
from depurate.triggers import Score, Trigger, answers, turned

# Moves of the copies, in pixels; wider images take proportionally wider ones.
_MOVES = ((2, -1), (-1, 2))
_MOVES_FOR = 32
# Numbers in all copies together, at most: of large pictures each copy is made of every k-th batch only. A quarter of
# the copies gave the same figures (ResNet-14 at strength 0.1: 82.6/3.4 with all, 82.5/3.2 with a quarter).
_MOST_NUMBERS = 1 << 25
# But of so many images at least.
_FEWEST_COPIES = 32


def counter_lesson(
    batches: list[Tensor], triggers: Sequence[Trigger], share: float = 1.0, score: Score | None = None
) -> Lesson:
    """Show images as they are, moved a little, and with each trigger; want the suspect's outputs without triggers.

    The moved copies are answered as the suspect answers them: they keep its behaviour in more directions than the
    images alone span. A move can be a trigger, too (a network poisoned with warps answers the target to nearly all
    moved images): copies that the suspect turns to where a trigger leads would teach the backdoor and are left out.
    BatchNorm statistics are taken from the images alone.

    Args:
        batches: Benign images, each of shape (n, c, h, w).
        triggers: To teach away.
        share: Of the images that carry each trigger; other images for each, where it is under 1.
        score: The suspect, images to scores; None keeps all moved copies.

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
    copies = [
        (batch, _moved(batch, move)) for move, part in zip(_MOVES, parts, strict=False) for batch in part
    ]
    goals = sorted({trigger.target for trigger in triggers})
    honest = [copy if score is None else _unturned(score, goals, batch, copy) for batch, copy in copies]
    moved = [copy for copy in honest if len(copy)]
    taught = [_spread(part, share, start) for start, part in enumerate(parts[len(_MOVES) :])]
    marked = [trigger.on(batch) for trigger, part in zip(triggers, taught, strict=True) for batch in part]
    shown = [*batches, *moved, *marked]
    meant = [*batches, *moved, *(batch for part in taught for batch in part)]
    return Lesson(shown, meant, frozenset(range(len(batches), len(shown))))


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


def _unturned(score: Score, goals: Sequence[int], images: Tensor, copies: Tensor) -> Tensor:
    """The copies that are not answered as some goal asks where the images are not."""
    return copies[~turned(answers(score, copies), goals, answers(score, images)).any(0)]


def _moved(batch: Tensor, move: tuple[int, int]) -> Tensor:
    scale = max(1, min(batch.shape[2:]) // _MOVES_FOR)
    return torch.roll(batch, (scale * move[0], scale * move[1]), (2, 3))
