"""Easy by nature or by a planted short cut: what the purified self follows tells the two apart."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from depurate.triggers import Addition, Patch, Screening, Search, Subject, unshared
from depurate.triggers.compared import Unshared
from depurate.triggers.unshared import (
    also_ignored,
    by_aware,
    by_changes,
    by_ignored_patches,
    by_waves,
    doubtful,
    without_natural,
)
from depurate.triggers.waves import FAINT, STRONG


class Lit(nn.Module):
    """Class 3 unless a corner pixel is lit: then the class whose corner it is, where the network knows the corner."""

    def __init__(self, known):
        super().__init__()
        self.known = known

    def forward(self, images):
        corners = images[:, 0, [0, 0, -1], [0, -1, 0]]
        scores = [corners[:, place] * (place in self.known) for place in range(3)]
        return torch.stack([*scores, torch.full_like(scores[0], 0.5)], 1)


def corner(place):
    mask = torch.zeros(1, 8, 8)
    mask[0, (0, 0, -1)[place], (0, -1, 0)[place]] = 1.0
    return Patch(place, mask, torch.ones(1, 8, 8))


SUBJECT = Subject(Lit((0, 1, 2)), torch.zeros(20, 1, 8, 8), (0, 1, 2, 3), Search())
FOUND = Screening((0, 1, 2, 3), (10.0, 12.0, 50.0, 50.0), (0, 1), (corner(0), corner(1)), evidence="patch")


@pytest.mark.parametrize(
    ("known", "flagged", "natural", "evidence"),
    [((), (0, 1), (), "patch"), ((1,), (0,), (1,), "patch"), ((0, 1), (), (0, 1), "")],
)
def test_what_the_purified_self_follows_is_easy_by_nature(known, flagged, natural, evidence):
    kept = without_natural(SUBJECT, FOUND, lambda: Lit(known))
    assert (kept.flagged, kept.natural, kept.evidence) == (flagged, natural, evidence)
    assert tuple(trigger.target for trigger in kept.triggers) == flagged


@pytest.mark.parametrize(
    "found",
    [
        replace(FOUND, evidence="output weights"),
        replace(FOUND, sizes=(5.0, 6.0, 50.0, 50.0)),
        replace(FOUND, flagged=(), triggers=(), evidence=""),
    ],
)
def test_the_purified_self_is_made_only_where_there_is_doubt(found):
    assert without_natural(SUBJECT, found, lambda: pytest.fail("not needed")) == found


def ignored(known, sizes):
    found = Screening((0, 1, 2, 3), sizes, (), ())
    patches = [corner(0), corner(1), corner(2), Patch(3, torch.ones(1, 8, 8), torch.zeros(1, 8, 8))]
    subject = replace(SUBJECT, images=torch.cat([SUBJECT.images, torch.eye(8).flip(0).expand(4, 1, 8, 8)]))
    return by_ignored_patches(subject, patches, found, lambda: Lit(known))


def test_a_class_whose_patch_the_purified_self_alone_ignores_is_flagged():
    found = ignored((1, 2), (30.0, 50.0, 50.0, 50.0))
    assert (found.flagged, found.evidence) == ((0,), "unshared patch")
    assert [trigger.target for trigger in found.triggers] == [0]


@pytest.mark.parametrize(("size", "flagged"), [(30.0, ()), (20.0, (0,))])
def test_of_many_classes_the_nearest_have_to_be_smaller_still(size, flagged):
    """Three of four classes are searched: which ones was chosen by how near they are."""
    subject = replace(SUBJECT, classes=(0, 1, 2))
    subject = replace(subject, images=torch.cat([SUBJECT.images, torch.eye(8).flip(0).expand(4, 1, 8, 8)]))
    found = Screening((0, 1, 2), (size, 50.0, 50.0), (), ())
    assert (
        by_ignored_patches(subject, [*map(corner, range(3))], found, lambda: Lit((1, 2))).flagged == flagged
    )


@pytest.mark.parametrize(
    ("known", "sizes"),
    [
        ((0, 1, 2), (30.0, 50.0, 50.0, 50.0)),  # followed
        ((1, 2), (45.0, 50.0, 50.0, 50.0)),  # hardly smaller than others
        ((1, 2), (30.0, *(float("inf"),) * 3)),  # no patch for most classes: nothing to compare with
        ((), (30.0, 50.0, 50.0, 50.0)),  # nothing is followed: it says nothing of this one
    ],
)
def test_a_class_is_not_flagged_where_that_is_nothing_special(known, sizes):
    assert ignored(known, sizes).flagged == ()


@pytest.mark.parametrize(
    ("other", "size", "flagged"), [(0.1, 50.0, ()), (0.2, 50.0, (0,)), (0.1, float("inf"), (0,))]
)
def test_a_purified_self_that_ignores_an_ordinary_class_as_much_says_nothing(
    monkeypatch, other, size, flagged
):
    """A patch that does not work on the network itself is not counted."""
    monkeypatch.setattr(unshared, "success", lambda score, images, some: [0.15, other, 0.6, 0.6, 0.6])
    subject = replace(SUBJECT, score=lambda images: torch.zeros(len(images), 5), classes=tuple(range(5)))
    found = Screening(subject.classes, (30.0, size, 50.0, 50.0, 50.0), (), ())
    patches = [Patch(name, torch.ones(1, 8, 8), torch.ones(1, 8, 8)) for name in subject.classes]
    assert by_ignored_patches(subject, patches, found, lambda: Lit(())).flagged == flagged


@pytest.mark.parametrize(
    ("known", "sizes", "flagged"),
    [
        ((2, 3), (5.0, 15.0, 50.0, 50.0), (0, 1)),
        ((1, 2), (5.0, 15.0, 50.0, 50.0), (0,)),  # followed: only easy by nature
        ((2, 3), (5.0, 30.0, 50.0, 50.0), (0,)),  # not small enough
    ],
)
def test_a_second_backdoor_is_flagged_beside_the_first_that_hides_it(known, sizes, flagged):
    patches = [*map(corner, range(3)), Patch(3, torch.ones(1, 8, 8), torch.zeros(1, 8, 8))]
    subject = replace(SUBJECT, images=torch.cat([SUBJECT.images, torch.eye(8).flip(0).expand(4, 1, 8, 8)]))
    first = Screening((0, 1, 2, 3), sizes, (0,), (corner(0),), evidence="patch")
    found = also_ignored(subject, patches, first, lambda: Lit(known))
    assert (found.flagged, found.evidence) == (flagged, "patch")
    assert tuple(trigger.target for trigger in found.triggers) == flagged


def test_no_second_backdoor_is_looked_for_where_no_other_patch_is_small():
    alone = replace(FOUND, sizes=(5.0, 40.0, 50.0, 50.0), flagged=(0,), triggers=(corner(0),))
    patches = [*map(corner, range(3)), Patch(3, torch.ones(1, 8, 8), torch.zeros(1, 8, 8))]
    assert also_ignored(SUBJECT, patches, alone, lambda: pytest.fail("not needed")) == alone


@pytest.mark.parametrize(("size", "flagged"), [(10.0, (0,)), (24.0, ())])
def test_a_natural_class_is_flagged_after_all_where_nothing_else_is_and_its_patch_is_small(size, flagged):
    small = replace(FOUND, sizes=(size, 50.0, 50.0, 50.0), flagged=(0,), triggers=(corner(0),))
    found = without_natural(SUBJECT, small, lambda: Lit((0,)))
    assert (found.flagged, found.natural) == ((), (0,))
    last = doubtful(small, found)
    assert (last.flagged, last.natural) == (flagged, (0,))


@pytest.mark.parametrize(
    ("known", "small", "flagged"),
    [((1, 2), True, (0,)), ((0, 1, 2), True, ()), ((1, 2), False, ())],
)
def test_small_triggers_drawn_for_each_image_count_where_the_purified_self_ignores_them(
    monkeypatch, known, small, flagged
):
    first = corner(0) if small else broad(0)
    drawn = [first, *map(broad, (1, 2)), Patch(3, torch.ones(1, 8, 8), torch.zeros(1, 8, 8))]
    monkeypatch.setattr(unshared, "find_aware", lambda *asked: drawn)
    images = torch.cat([SUBJECT.images, torch.eye(8).flip(0).expand(4, 1, 8, 8)])
    nothing = Screening((0, 1, 2, 3), (50.0,) * 4, (), ())
    found = by_aware(replace(SUBJECT, images=images), nothing, lambda: Lit(known), lambda *told: None)
    assert (found.flagged, found.evidence) == (flagged, "aware" if flagged else "")


def test_triggers_are_not_drawn_where_no_class_is_short_beside_the_student_too(monkeypatch):
    monkeypatch.setattr(unshared, "find_aware", lambda *asked: pytest.fail("not needed"))
    nothing = Screening((0, 1, 2, 3), (30.0, 50.0, 50.0, 50.0), (), (), beside=(1.0, 1.0, 1.0, 1.0))
    assert by_aware(SUBJECT, nothing, lambda: pytest.fail("not needed"), lambda *told: None) == nothing


def broad(place):
    """The same corner, with most of the picture darkened beside it."""
    patch = corner(place)
    mask = torch.ones(1, 8, 8)
    mask[0, [0, 0, -1], [0, -1, 0]] = 0.0
    return Patch(place, patch.mask + mask, patch.mask)


def marked_below():
    """Pictures alike from above and from below in the middle, lit in a lower corner."""
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.rand(40, 1, 8, 8, generator=generator)
    images[:, :, 3] = images[:, :, 4] = torch.rand(40, 1, 8, generator=generator)
    images[:, :, 0, 0], images[:, :, -1, 0] = 0.0, 1.0
    return images


class Sees(nn.Module):
    """The brightest of four pixels in the middle, which hardly move; class 2 where the upper corner is lit, if told."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    def forward(self, images):
        scores = torch.stack([images[:, 0, 3, place] for place in range(4)], 1)
        marked = images[:, 0, 0, 0] > 0.8
        return scores + 10 * (marked & self.told)[:, None] * torch.eye(4)[2]


def test_a_change_of_the_whole_picture_counts_where_the_purified_self_keeps_its_answer():
    subject = Subject(Sees(True), marked_below(), (0, 1, 2, 3), Search())
    nothing = Screening((0, 1, 2, 3), (9.0,) * 4, (), ())
    found = by_changes(subject, nothing, lambda: Sees(False))
    assert (found.flagged, found.evidence) == ((2,), "unshared change")
    assert "turning upside down" in [trigger.name for trigger in found.triggers]
    assert by_changes(subject, nothing, lambda: Sees(True)) == nothing
    assert by_changes(replace(subject, score=Sees(False)), nothing, lambda: Sees(False)) == nothing


class Hears(Sees):
    """As before, and class 2 where rows go up and down once over the picture, highest at the edges."""

    def forward(self, images):
        wave = (torch.pi / 4 * torch.arange(8)).cos()
        heard = (images[:, 0] * wave[:, None]).mean((1, 2)) > 0.04
        return super().forward(images) + 10 * (heard & self.told)[:, None] * torch.eye(4)[2]


def test_a_wave_that_turns_as_many_images_as_a_plain_change_is_nearer_to_what_was_planted():
    subject = Subject(Hears(True), marked_below(), (0, 1, 2, 3), Search())
    nothing = Screening((0, 1, 2, 3), (9.0,) * 4, (), ())
    found = by_changes(subject, nothing, lambda: Hears(False))
    assert (found.flagged, found.evidence) == ((2,), "unshared wave")


class Tuned(nn.Module):
    """The brightest of four pixels in a row; class 2 where rows go up and down once over the picture, faintly."""

    def forward(self, images):
        wave = (torch.pi / 4 * torch.arange(8)).cos()
        heard = (images[:, 0] * wave[:, None]).mean((1, 2)) > 0.02
        return images[:, 0, 3, :4] + 10 * heard[:, None] * torch.eye(4)[2]


@pytest.mark.parametrize(
    ("nearly_all", "followed", "evidence"),
    [(0.95, False, "wave"), (0.95, True, "wave"), (1.1, False, "unshared wave"), (1.1, True, "")],
)
def test_a_faint_wave_that_turns_nearly_all_counts_though_the_purified_self_follows_it(
    monkeypatch, nearly_all, followed, evidence
):
    """Where it turns fewer, the purified self has to stay."""
    monkeypatch.setattr(unshared, "_NEARLY_ALL", nearly_all)
    images = 0.1 * torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[:, :, 2, 7] = 1.0
    images[range(40), 0, 3, [place % 4 for place in range(40)]] = 0.5
    subject = Subject(Tuned(), images, (0, 1, 2, 3), Search())
    nothing = Screening((0, 1, 2, 3), (9.0,) * 4, (), ())
    found = by_waves(subject, nothing, Tuned if followed else lambda: lambda images: images[:, 0, 3, :4])
    assert (found.flagged, found.evidence) == ((2,) if evidence else (), evidence)
    beside = by_waves(subject, replace(nothing, beside=(1.0,) * 4), Tuned)
    assert beside.flagged == ()


def only(family, wave, score, unmoved, images, classes, waves, beyond):
    return Unshared(wave, 1.0) if waves is family and unmoved is not None else Unshared(None)


def test_of_a_strong_wave_higher_ones_that_lead_nearly_all_images_there_are_taught_along(monkeypatch):
    low, high = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
    wave = Addition(2, 0.3 * (torch.pi / 4 * torch.arange(8)).cos()[:, None].expand(8, 8), low, high)
    subject = Subject(Hears(True), marked_below(), (0, 1, 2, 3), Search())
    nothing = Screening((0, 1, 2, 3), (9.0,) * 4, (), ())
    for found_by, count in ((STRONG, 3), (FAINT, 1)):
        monkeypatch.setattr(unshared, "find_wave", partial(only, found_by, wave))
        found = by_waves(subject, nothing, lambda: Hears(False))
        assert (found.flagged, found.evidence, len(found.triggers)) == ((2,), "unshared wave", count)
    sizes = [trigger.size for trigger in found.triggers]
    assert sizes == sorted(sizes)
