"""Lessons that teach a trigger away: the same images with and without it, and moved copies to hold the rest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from depurate.recovery import Lesson
from depurate.triggers import Trigger

# Moves of the copies, in pixels; wider images take proportionally wider ones.
_MOVES = ((2, -1), (-1, 2))
_MOVES_FOR = 32


def counter_lesson(batches: list[Tensor], triggers: Sequence[Trigger]) -> Lesson:
    """Show images as they are, moved a little, and with each trigger; want the suspect's outputs without triggers.

    The moved copies are answered as the suspect answers them: they keep its behaviour in more directions than the
    images alone span. BatchNorm statistics are taken from the images alone.

    Args:
        batches: Benign images, each of shape (n, c, h, w).
        triggers: To teach away.

    Returns:
        The lesson.

    Example:
        >>> from depurate.triggers import Patch
        >>> patch = Patch(0, torch.ones(1, 4, 4), torch.ones(1, 4, 4))
        >>> lesson = counter_lesson([torch.zeros(2, 1, 4, 4)], [patch])
        >>> [float(batch.mean()) for batch in lesson.shown], len(lesson.meant), sorted(lesson.artificial)
        ([0.0, 0.0, 0.0, 1.0], 4, [1, 2, 3])
    """
    moved = [_moved(batch, move) for move in _MOVES for batch in batches]
    marked = [trigger.on(batch) for trigger in triggers for batch in batches]
    shown = [*batches, *moved, *marked]
    meant = [*batches, *moved, *(batch for _ in triggers for batch in batches)]
    return Lesson(shown, meant, frozenset(range(len(batches), len(shown))))


def _moved(batch: Tensor, move: tuple[int, int]) -> Tensor:
    scale = max(1, min(batch.shape[2:]) // _MOVES_FOR)
    return torch.roll(batch, (scale * move[0], scale * move[1]), (2, 3))
