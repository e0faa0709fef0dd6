"""Triggers: found where they were planted, judged against the other classes, taught away."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from depurate.purification.lessons import counter_lesson
from depurate.triggers import (
    Addition,
    Patch,
    Search,
    find_additions,
    find_patches,
    outliers,
    screen,
    shortest_additions,
    success,
)


class Planted(nn.Module):
    """Classes by which quarter of a picture is brightest; a lit corner pixel means class 2 whatever else is there."""

    def __init__(self, planted):
        super().__init__()
        self.planted = planted

    def forward(self, images):
        quarters = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) * 20
        corner = nn.functional.softplus(10 * images[:, 0, 7, 0] - 7) * (10 if self.planted else 0)
        return quarters + corner[:, None] * torch.eye(4)[2]


def pictures(n=200):
    images = 0.3 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for place in range(n):
        row, column = divmod(place % 4, 2)
        images[place, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    images[:, :, 7, 0] = images[:, :, 7, 0].clamp(max=0.7)
    images[0, 0, 0, 7], images[1, 0, 0, 0] = 1.0, 0.0
    return images


def test_a_planted_trigger_is_flagged_and_found():
    found = screen(Planted(True), pictures(), range(4), Search())
    assert found.flagged == (2,)
    patch = found.triggers[0]
    assert patch.target == 2
    assert int(patch.mask.argmax()) == 7 * 8
    assert patch.size < 0.5 * found.usual
    assert success(Planted(True), pictures(), [patch])[0] > 0.8


def test_a_network_without_one_is_not_flagged():
    assert screen(Planted(False), pictures(), range(4), Search()).flagged == ()


def test_the_same_seed_finds_the_same():
    one, two = (find_patches(Planted(True), pictures(), [0, 2], Search(steps=5)) for _ in range(2))
    assert all(
        torch.equal(a.mask, b.mask) and torch.equal(a.pattern, b.pattern)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_additions_keep_their_length_and_the_range(radius):
    images = pictures()
    (addition,) = find_additions(Planted(True), images, [2], Search(steps=10), radius)
    assert addition.size <= radius * (1 + 1e-5)
    shown = addition.on(images)
    assert shown.min() >= images.min()
    assert shown.max() <= images.max()


def test_the_shortest_addition_that_works_is_taken():
    images = pictures()
    (short,) = shortest_additions(Planted(True), images, [2], Search(steps=20))
    (other,) = shortest_additions(Planted(False), images, [2], Search(steps=20))
    assert short.size < other.size
    assert success(Planted(True), images, [short])[0] >= 0.9


def test_success_counts_images_of_other_classes_only():
    nothing = Addition(2, torch.zeros(1, 8, 8), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    assert success(Planted(True), pictures(), [nothing]) == [0.0]
    everything = Patch(2, torch.ones(1, 8, 8), torch.ones(1, 8, 8))
    assert success(Planted(True), pictures(), [everything]) == [1.0]


@given(st.lists(st.floats(1, 1e6), min_size=3, max_size=20), st.floats(1e-3, 1e3))
def test_outliers_do_not_depend_on_the_unit_and_are_a_minority(sizes, unit):
    marks = outliers(sizes)
    ordered = sorted(sizes)
    assert sum(marks) <= len(sizes) // 2
    assert all(size < ordered[len(sizes) // 2] for size, mark in zip(sizes, marks, strict=True) if mark)
    if all(abs(size - ordered[(len(sizes) - 1) // 2] / 2) > 1e-3 * size for size in sizes):
        assert sum(outliers([unit * size for size in sizes])) == sum(marks)


def test_a_lesson_wants_the_answers_without_the_trigger():
    images = torch.rand(5, 1, 8, 8)
    patch = Patch(1, torch.ones(1, 8, 8), torch.zeros(1, 8, 8))
    lesson = counter_lesson([images[:3], images[3:]], [patch])
    assert [len(batch) for batch in lesson.shown] == [len(batch) for batch in lesson.meant]
    assert lesson.artificial == frozenset(range(2, 8))
    for place in lesson.artificial:
        carried = bool((lesson.shown[place] == 0).all())
        assert carried == (place >= 6)
        assert torch.equal(lesson.meant[place], lesson.shown[place]) != carried
