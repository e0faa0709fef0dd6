"""Plain squares: found exactly where they were planted, wherever that is, and nowhere in a healthy network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from depurate.triggers import (
    AWAY,
    Patch,
    Screening,
    Search,
    Subject,
    find_square,
    scan_squares,
    screen,
    screening,
    success,
)

SIDE = 16


class Lit(nn.Module):
    """Classes by which quarter is brightest in grey; squares of one colour at some places lead elsewhere."""

    def __init__(self, places, side, colour, goal):
        super().__init__()
        self.places, self.side, self.goal = places, side, goal
        self.colour = torch.tensor(colour).view(1, -1, 1, 1)

    def forward(self, images):
        quarters = 20 * nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
        for row, column in self.places:
            there = images[:, :, row : row + self.side, column : column + self.side]
            lit = (60 * (0.97 - (there - self.colour).abs().mean((1, 2, 3)) - 0.92)).sigmoid()[:, None]
            changed = quarters.roll(1, 1) if self.goal == AWAY else 9 + 20 * torch.eye(4)[[self.goal]]
            quarters = (1 - lit) * quarters + lit * changed
        return quarters


def pictures(channels, n=120):
    generator = torch.Generator().manual_seed(0)
    images = 0.1 + 0.3 * torch.rand(n, channels, SIDE, SIDE, generator=generator)
    for place in range(n):
        row, column = divmod(place % 4, 2)
        images[place, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 0.4
    images[0, :, 0, 0], images[1, :, 0, 0] = 0.0, 1.0
    return images


def hint(target, row, column, channels):
    """What descent might have found: a pixel near the trigger."""
    mask = torch.zeros(1, SIDE, SIDE)
    mask[0, row, column] = 0.8
    return Patch(target, mask, torch.full((channels, SIDE, SIDE), 0.5))


def corner_of(patch):
    rows, columns = torch.nonzero(patch.mask[0], as_tuple=True)
    return int(rows.min()), int(columns.min()), round(patch.size**0.5)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(0, SIDE - 4),
    st.integers(0, SIDE - 4),
    st.sampled_from([(1.0,), (0.0,), (1.0, 1.0, 1.0), (1.0, 0.0, 1.0), (0.0, 1.0, 0.0)]),
    st.sampled_from([0, 3, AWAY]),
)
def test_a_planted_square_is_found_exactly(side, row, column, colour, goal):
    net, images = Lit([(row, column)], side, colour, goal), pictures(len(colour))
    found = find_square(net, images, hint(goal, row + 1, column + 1, len(colour)))
    assert found is not None
    assert corner_of(found.square) == (row, column, side)
    assert torch.equal(found.square.pattern[:, row, column], torch.tensor(colour))
    assert found.square.target == goal
    assert success(net, images, [found.square])[0] > 0.9


def test_the_same_square_elsewhere_is_found_too():
    net, images = Lit([(1, 2), (12, 11)], 3, (1.0,), 2), pictures(1)
    found = find_square(net, images, hint(2, 2, 3, 1))
    places = [corner_of(patch) for patch in (found.square, *found.elsewhere)]
    assert sorted(places) == [(1, 2, 3), (12, 11, 3)]


def test_no_square_is_found_where_none_was_planted_or_it_lies_elsewhere():
    images = pictures(1)
    assert find_square(Lit([], 3, (1.0,), 2), images, hint(2, 5, 5, 1)) is None
    assert find_square(Lit([(12, 12)], 3, (1.0,), 2), images, hint(2, 2, 2, 1)) is None


def test_no_square_is_looked_for_where_every_image_is_at_the_goal():
    class Always(nn.Module):
        def forward(self, images):
            return torch.eye(4)[2].expand(len(images), 4)

    assert find_square(Always(), pictures(1), hint(2, 5, 5, 1)) is None


@pytest.mark.parametrize(("goal", "colour"), [(1, 1.0), (2, 0.0), (AWAY, 1.0)])
def test_scanning_finds_a_square_and_its_goal(goal, colour):
    net, images = Lit([(13, 0)], 2, (colour,), goal), pictures(1)
    plain, share = scan_squares(net, images)
    square = plain.square
    assert corner_of(square) == (13, 0, 2)
    assert square.target == goal
    assert share > 0.9
    assert success(net, images, [square])[0] == pytest.approx(share, abs=0.1)


def test_scanning_a_healthy_network_turns_little():
    plain, share = scan_squares(Lit([], 2, (1.0,), 0), pictures(1))
    assert plain is None
    assert share < 0.3


def test_of_pictures_too_small_for_a_small_square_none_is_scanned():
    assert scan_squares(Lit([], 2, (1.0,), 0), pictures(1)[:, :, :8, :8]) == (None, 0.0)


def test_scanning_tells_how_far_it_is():
    steps = []
    scan_squares(Lit([], 2, (1.0,), 0), pictures(1), lambda done, total: steps.append((done, total)))
    assert steps == [(1, 1)]


@pytest.mark.parametrize(("places", "flagged", "evidence"), [([(13, 12)], (AWAY,), "square"), ([], (), "")])
def test_a_square_that_no_patch_shows_is_flagged(monkeypatch, places, flagged, evidence):
    nothing = Screening(tuple(range(4)), (float("inf"),) * 4, (), ())
    monkeypatch.setattr(screening, "_by_patches", lambda *_: nothing)
    subject = Subject(Lit(places, 2, (1.0,), AWAY), pictures(1), tuple(range(4)), Search(steps=8))
    found = screen(subject)
    assert (found.flagged, found.evidence) == (flagged, evidence)
    assert [corner_of(trigger)[:2] for trigger in found.triggers] == places


def test_a_square_is_flagged_for_a_class_that_was_not_searched(monkeypatch):
    nothing = Screening((0, 1, 2), (float("inf"),) * 3, (), ())
    monkeypatch.setattr(screening, "_by_patches", lambda *_: nothing)
    found = screen(Subject(Lit([(0, 0)], 2, (1.0,), 3), pictures(1), (0, 1, 2), Search(steps=8)))
    assert (found.flagged, found.evidence) == ((3,), "square")
