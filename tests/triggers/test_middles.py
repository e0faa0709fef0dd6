"""Middles of large pictures: searched where a network answers them like the whole, and seen whole afterwards."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from depurate.triggers import (
    AWAY,
    Patch,
    PlainSquare,
    Screening,
    Search,
    Subject,
    find_square,
    middle,
    side_of_middles,
)
from depurate.triggers.middles import around
from depurate.triggers.unshared import by_unshared_patches
from depurate.triggers.whole import in_whole

SIDE = 224


def pictures(n=12, side=SIDE):
    """Of one of three colours each, all over."""
    colours = torch.eye(3)[torch.arange(n) % 3]
    noise = 0.1 * torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))
    return noise + 0.5 * colours[:, :, None, None]


class Averaging(nn.Module):
    """Class by colour; the last one by how bright the brightest part of 16 pixels is, wherever it lies."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dense = nn.Linear(3, 3, bias=False)
        self.dense.weight.data.copy_(10 * torch.eye(3))

    def forward(self, images):
        brightest = nn.functional.avg_pool2d(images.amin(1, keepdim=True), 16, 8).amax((1, 2, 3))
        return torch.cat([self.dense(self.pool(images).flatten(1)), 30 * brightest[:, None] - 10], 1)


class Keeping(Averaging):
    """Reads every place by itself."""

    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.dense = nn.Linear(12, 3)


class Fixed(Averaging):
    """Takes no other pictures."""

    def forward(self, images):
        if images.shape[2] != SIDE:
            raise ValueError(f"{images.shape[2]} pixels")
        return super().forward(images)


class Otherwise(Averaging):
    """Answers parts of a picture with another class."""

    def forward(self, images):
        return super().forward(images).roll(int(images.shape[2] != SIDE), 1)


@pytest.mark.parametrize(
    ("net", "side", "searched"),
    [(Averaging(), SIDE, 112), (Averaging(), 300, 150), (Averaging(), 140, None), (Averaging(), 32, None),
     (Keeping(), SIDE, None), (Fixed(), SIDE, None), (Otherwise(), SIDE, None)],
)  # fmt: skip
def test_middles_are_searched_where_they_are_answered_like_the_whole(net, side, searched):
    assert side_of_middles(net, net, pictures(side=side)) == searched


def test_parts_are_cut_out():
    images = torch.arange(2.0 * 3 * 6 * 8).view(2, 3, 6, 8)
    assert torch.equal(middle(images, 4), images[:, :, 1:5, 2:6])
    assert middle(images, None) is images
    for place, corner in [((0, 0), (0, 0)), ((5, 7), (2, 4)), ((3, 4), (1, 2))]:
        part, began = around(images, 4, place)
        assert began == corner
        assert torch.equal(part, images[:, :, corner[0] : corner[0] + 4, corner[1] : corner[1] + 4])


def square_of(side, target=3, of=SIDE):
    mask = torch.zeros(1, of, of)
    mask[:, :side, :side] = 1
    return Patch(target, mask, torch.ones(3, of, of))


SUBJECT = Subject(Averaging(), pictures(), (0, 1, 2, 3), Search(), side=112)
FOUND = Screening(
    (0, 1, 2, 3), (800.0, 900.0, 1000.0, 60.0), (3,), (square_of(9),), evidence="patch", side=112
)
SIZES = dict(zip(FOUND.classes, FOUND.sizes, strict=True))


def small(sizes):
    return [size < 100 for size in sizes]


@pytest.mark.parametrize(("side", "kept"), [(17, True), (24, False), (4, False)])
def test_what_stands_out_in_middles_has_to_stand_out_in_the_whole(side, kept):
    asked = []

    def find(score, images, goals, search):
        asked.append((images.shape[2], tuple(goals), search.images))
        return (square_of(side),)

    # A quarter of what it takes in the whole is compared: 72 and 144 pixels. One of four pixels turns nothing.
    found = in_whole(SUBJECT, FOUND, find, SIZES, small, 2)
    assert asked == [(SIDE, (3,), 24)]
    assert found.flagged == ((3,) if kept else ())
    assert found.evidence == ("patch" if kept else "")
    assert [trigger.size for trigger in found.triggers] == ([side**2] if kept else [])


def test_whole_pictures_are_seen_once():
    def find(*_):
        pytest.fail("no middles were searched")

    assert in_whole(replace(SUBJECT, side=None), FOUND, find, SIZES, small, 2) == FOUND
    nothing = replace(FOUND, flagged=(), triggers=(), evidence="")
    assert in_whole(SUBJECT, nothing, find, SIZES, small, 2) == nothing


def test_a_square_is_found_in_a_part_and_placed_in_the_whole():
    images = pictures()
    mask = torch.zeros(1, SIDE, SIDE)
    mask[:, 180:190, 30:40] = 1
    found = find_square(Averaging(), images, Patch(3, mask, torch.ones(3, SIDE, SIDE)), window=112)
    assert isinstance(found, PlainSquare)
    rows, columns = torch.nonzero(found.square.mask[0], as_tuple=True)
    assert (Averaging()(found.square.on(images)).argmax(1) == 3).all()
    assert 0 <= rows.min() <= rows.max() < SIDE
    assert 0 <= columns.min() <= columns.max() < SIDE


@pytest.mark.parametrize(
    ("side", "beside", "searched"),
    [
        (9, None, [(7, 6, 5, 4, 3)]),
        (9, (4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0), [(7, 6)]),
        (1, (4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0, 1.0), [(7, 6), (5, 4, 3)]),
    ],
)
def test_of_large_pictures_the_easiest_classes_are_compared_with_the_purified_self(
    monkeypatch, side, beside, searched
):
    asked = []

    def find(score, images, goals, search, step, *, unmoved):
        asked.append((images.shape[2], tuple(goals)))
        return tuple(square_of(side, goal, images.shape[2]) for goal in goals)

    monkeypatch.setattr("depurate.triggers.unshared.find_patches", find)
    monkeypatch.setattr("depurate.triggers.unshared.success", lambda *asked, unmoved: [1.0] * len(asked[2]))
    classes = tuple(range(8))
    nothing = Screening(classes, (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0), (), (), side=112, beside=beside)
    subject = replace(SUBJECT, classes=classes, images=pictures(side=112), side=None)
    by_unshared_patches(subject, nothing, lambda: Averaging(), lambda done, total: None)
    assert asked == [(112, goals) for goals in searched]


def test_what_leads_away_is_searched_for_in_clear_middles_only():
    assert SUBJECT.goals == (0, 1, 2, 3, AWAY)
    assert replace(SUBJECT, middles_clear=False).goals == (0, 1, 2, 3)
    assert replace(SUBJECT, clear=False).goals == (0, 1, 2, 3)
