"""Lessons of large pictures: fewer copies, spread over the batches, every original kept."""

import torch

from depurate.purification import lessons
from depurate.triggers import Patch


def test_copies_are_bounded_and_originals_are_not(monkeypatch):
    batches = list(torch.randn(512, 1, 8, 8).split(4))
    patch = Patch(0, torch.ones(1, 8, 8), torch.ones(1, 8, 8))
    full = lessons.counter_lesson(batches, [patch])
    assert len(full.shown) == 4 * len(batches)
    monkeypatch.setattr(lessons, "_MOST_NUMBERS", 3 * 512 * 64 // 4)
    few = lessons.counter_lesson(batches, [patch])
    assert all(shown is batch for shown, batch in zip(few.shown, batches, strict=False))
    assert len(few.artificial) == 3 * len(batches) // 4
    assert sum(few.shown[place].numel() for place in few.artificial) <= 3 * 512 * 64 // 4
    for shown, meant in list(zip(few.shown, few.meant, strict=True))[-len(batches) // 4 :]:
        assert torch.equal(shown, torch.ones_like(meant))
        assert any(meant is batch for batch in batches)
