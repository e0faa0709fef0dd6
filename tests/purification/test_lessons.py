"""Lessons: copies of large pictures are fewer but no original is, and moved copies that are triggers are left out."""

import pytest
import torch

from depurate.purification import lessons
from depurate.purification.latest import Latest
from depurate.triggers import AWAY, Patch


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


@pytest.mark.parametrize(("target", "kept"), [(1, [2, 6]), (AWAY, [2, 4])])
def test_moved_copies_that_the_suspect_turns_are_left_out(target, kept):
    """A suspect that answers 1 to a dark first row, which all images have after one of the two moves."""
    images = torch.ones(6, 1, 8, 8)
    images[:, :, -2:] = 0
    images[:2, :, 0] = 0  # answered 1 as they are

    def score(shown):
        dark = (shown[:, 0, 0] == 0).any(1).float()
        return torch.stack([1 - dark, dark], 1)

    patch = Patch(target, torch.ones(1, 8, 8), torch.ones(1, 8, 8))
    every, honest = (lessons.counter_lesson([images], [patch], score=some) for some in (None, score))
    assert [len(batch) for batch in every.shown] == [6, 6, 6, 6]
    assert [len(batch) for batch in honest.shown] == [6, *kept, 6]
    assert all(honest.shown[place] is honest.meant[place] for place in range(3))


def test_a_move_that_turns_every_copy_leaves_none():
    images = torch.rand(5, 1, 8, 8) + 1
    corner = images[0, 0, 0, 0]

    def score(shown):
        plain = torch.isin(shown[:, 0, 0, 0], images[:, 0, 0, 0]).float()
        return torch.stack([plain, 1 - plain], 1)

    lesson = lessons.counter_lesson(
        [images], [Patch(1, torch.ones(1, 8, 8), corner.expand(1, 8, 8))], score=score
    )
    assert [len(batch) for batch in lesson.shown] == [5, 5]
    assert lesson.artificial == {1}


def test_copies_of_a_move_that_turns_few_images_are_all_kept():
    images = torch.ones(10, 1, 8, 8)
    images[:2, :, -2:] = 0  # a fifth, which is not more than is taken for chance

    def score(shown):
        dark = (shown[:, 0, 0] == 0).any(1).float()
        return torch.stack([1 - dark, dark], 1)

    patch = Patch(1, torch.ones(1, 8, 8), torch.ones(1, 8, 8))
    lesson = lessons.counter_lesson(list(images.split(5)), [patch], score=score)
    assert [len(batch) for batch in lesson.shown] == [5] * 8


def test_moved_copies_are_made_once_for_lessons_on_the_same_images():
    images, asked = torch.rand(6, 1, 8, 8), []
    batches = [images[:3], images[3:]]

    def score(shown):
        asked.append(len(shown))
        return torch.eye(2)[torch.zeros(len(shown)).long()]

    patch, other = (Patch(target, torch.ones(1, 8, 8), torch.ones(1, 8, 8)) for target in (1, 0))
    latest = Latest()
    first = lessons.counter_lesson(batches, [patch], 1.0, score, latest)
    looks = len(asked)
    again = lessons.counter_lesson([images[:3], images[3:]], [patch], 0.3, score, latest)
    assert len(asked) == looks
    assert all(one is two for one, two in zip(first.shown[2:6], again.shown[2:6], strict=True))
    lessons.counter_lesson(batches[:1], [patch], 1.0, score, latest)  # other images
    assert len(asked) > looks
    looks = len(asked)
    lessons.counter_lesson(batches[:1], [other], 1.0, score, latest)  # another class to be turned to
    assert len(asked) > looks
