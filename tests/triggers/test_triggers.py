"""Triggers: found where they were planted, judged against the other classes, taught away."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from depurate.purification.findings import describe_screening
from depurate.purification.lessons import counter_lesson
from depurate.triggers import (
    AWAY,
    Addition,
    Aware,
    Patch,
    Screening,
    Search,
    Subject,
    Warp,
    clear_answers,
    find_additions,
    find_aware,
    find_patches,
    find_warps,
    find_wave,
    outliers,
    screen,
    screening,
    shortest_additions,
    success,
    warps_akin,
    whole_changes,
)
from depurate.triggers.aware import AwareCandidates
from depurate.triggers.compared import Unshared
from depurate.triggers.waves import FAINT


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
    found = screen(Subject(Planted(True), pictures(), tuple(range(4)), Search()))
    assert found.flagged == (2,)
    assert found.evidence == "patch"
    patch = found.triggers[0]
    assert patch.target == 2
    assert int(patch.mask.argmax()) == 7 * 8
    assert patch.size < 0.5 * found.usual
    assert success(Planted(True), pictures(), [patch])[0] > 0.8


def test_a_network_without_one_is_not_flagged():
    asked = []
    found = screen(
        Subject(Planted(False), pictures(), tuple(range(4)), Search()),
        lambda: asked.append("purified") or Planted(False),
        lambda what, done, total: asked.append(what),
    )
    assert found.flagged == ()
    assert found.evidence == ""
    # Nothing stood out by itself, so everything was tried.
    assert list(dict.fromkeys(asked)) == [
        "searching for patches",
        "searching for warps",
        "searching for additions",
        "trying plain changes of whole pictures",
        "purified",
        "trying waves",
    ]  # no class is small enough to count by what else there is


def test_a_class_with_strong_outputs_is_flagged_with_the_patch_that_leads_there_if_that_is_small():
    found = screen(Subject(Planted(True), pictures(), tuple(range(4)), Search(), strong=(2, 3)))
    assert (found.flagged, found.evidence) == ((2,), "output weights")
    assert found.triggers[0].target == 2
    found = screen(Subject(Planted(False), pictures(), tuple(range(4)), Search(), strong=(3,)))
    assert (found.flagged, found.evidence) == ((), "")


class SentOn(nn.Module):
    """Like Planted, but a lit corner of 2x2 pixels sends each class to the next."""

    def forward(self, images):
        quarters = nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) * 20
        lit = (12 * images[:, 0, 6:, :2].mean((1, 2)) - 10).sigmoid()[:, None]
        return (1 - lit) * quarters + lit * quarters.roll(1, 1)


def test_a_trigger_that_sends_each_class_to_another_is_flagged():
    found = screen(Subject(SentOn(), pictures(), tuple(range(4)), Search()))
    assert found.flagged == (AWAY,)
    assert found.evidence == "away"
    assert found.away < 0.5 * found.usual
    mask = found.triggers[0].mask[0]
    assert mask[6:, :2].mean() > 0.5 > 10 * mask[:4].mean()
    assert success(SentOn(), pictures(), found.triggers)[0] > 0.8


class Waved(nn.Module):
    """Like Planted without a trigger, but a strong wave of two periods along the columns means class 1."""

    def forward(self, images):
        angles = 2 * torch.pi * 2 / 8 * torch.arange(8)
        heard = (images.mean(2) @ angles.sin()).squeeze(1).abs()
        heard = nn.functional.softplus(20 * (heard - 0.5)) * torch.eye(4)[1][:, None]
        return Planted(False)(images) + heard.T


def test_a_wave_is_found_by_trying_and_only_where_the_other_network_is_deaf_to_it():
    found = find_wave(Waved(), Planted(False), pictures(), range(4))
    wave, share = found.trigger, found.share
    assert wave.target == 1
    assert share > 0.4
    spectrum = torch.fft.rfft2(wave.shift[0]).abs()
    assert int(spectrum.argmax()) == 2
    again = find_wave(Waved(), Planted(False), pictures(), range(4), beyond=0.5 * share)
    assert again.share == share
    assert torch.equal(again.trigger.shift, wave.shift)
    assert find_wave(Waved(), Planted(False), pictures(), range(4), beyond=share).trigger is None
    assert find_wave(Waved(), Waved(), pictures(), range(4)).share < 0.2


def test_a_faint_wave_counts_while_the_other_network_stays_off_its_goal():
    class Elsewhere(nn.Module):
        """Answers the wave as well, but by another class."""

        def forward(self, images):
            return Waved()(images).roll(1, 1)

    faint = replace(FAINT, amplitudes=(0.6,))
    found = find_wave(Waved(), Elsewhere(), pictures(), range(4), faint)
    wave, share = found.trigger, found.share
    assert wave.target == 1
    assert share > 0.4
    assert find_wave(Waved(), Elsewhere(), pictures(), range(4), replace(faint, deaf=True)).share < 0.2
    assert find_wave(Waved(), Waved(), pictures(), range(4), faint) == Unshared(None)


def test_a_patch_that_turns_both_networks_does_not_count_as_unshared():
    patches = find_patches(Planted(True), pictures(), [2], Search())
    assert success(Planted(True), pictures(), patches)[0] > 0.8
    assert success(Planted(True), pictures(), patches, unmoved=Planted(False))[0] > 0.8
    assert success(Planted(True), pictures(), patches, unmoved=Planted(True)) == [0.0]


@pytest.mark.parametrize("kind", [{"mended": True}, {"clear": False}], ids=["repaired", "hardly prefers"])
def test_nothing_is_flagged_only_because_the_purified_self_ignores_it(kind):
    """Of a network that was repaired, or whose answers nearly any change turns."""
    found = screen(Subject(Waved(), pictures(), tuple(range(4)), Search()), lambda: Planted(False))
    assert found.flagged == (1,)
    assert found.evidence.startswith("unshared")
    doubted = Subject(Waved(), pictures(), tuple(range(4)), Search(), **kind)
    assert screen(doubted, lambda: Planted(False)).flagged == ()


class Leaning(nn.Module):
    """Two classes by which half is brighter at the seam: moving every picture by a pixel decides."""

    def forward(self, images):
        return 50 * torch.stack([images[:, 0, :, 3].mean(1), images[:, 0, :, 4].mean(1)], 1)


def test_a_warp_is_found_where_moving_the_picture_decides():
    images = torch.zeros(40, 1, 8, 8)
    images[:20, :, :, 3], images[20:, :, :, 4] = 1.0, 1.0
    warps = find_warps(Leaning(), images, [0, 1], Search(steps=80))
    assert min(success(Leaning(), images, warps)) > 0.9
    assert all(0.2 < warp.size < 1 for warp in warps)
    assert isinstance(warps[0], Warp)


def test_triggers_drawn_for_each_image_are_found_and_kept_as_they_were():
    images = pictures()
    drawn = find_aware(Planted(True), images, [2], Search(steps=60))[0]
    assert isinstance(drawn, Aware)
    assert success(Planted(True), images, [drawn])[0] > 0.8
    shown = drawn.on(images)
    assert torch.equal(shown, drawn.on(images))
    assert torch.allclose(drawn.on(images[3:5]), shown[3:5], atol=1e-6)
    assert 0 < drawn.size < 64
    assert shown.min() >= images.min()
    assert shown.max() <= images.max()


def test_candidates_drawn_together_are_those_drawn_alone():
    images = pictures(7)
    candidates = AwareCandidates(images, 3, torch.Generator().manual_seed(0))
    together = candidates.on(images).detach()
    assert together.shape == (3, *images.shape)
    for place in range(3):
        alone = candidates.taken(place, place)
        assert torch.allclose(alone.on(images), together[place], atol=1e-6)
        assert alone.size == pytest.approx(float(candidates.sizes().detach()[place]))


class Sharp(nn.Module):
    """Class 0 for pictures as grainy as they were taken, class 1 for any that were resampled."""

    def forward(self, images):
        grain = images.diff(dim=3).square().mean((1, 2, 3))
        return 200 * torch.stack([grain - 0.4, 0 * grain], 1)


def test_warps_of_the_same_kind_are_given_where_they_work_too():
    images = (torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    warp = Warp(1, torch.full((2, 4, 4), 0.4))
    assert success(Sharp(), images, [warp]) == [1.0]
    akin = warps_akin(Sharp(), images, warp)
    assert min(success(Sharp(), images, akin)) >= 0.5
    # Turned round, and four of half a pixel or so; none larger than the one found.
    assert any(torch.equal(other.knots, -warp.knots) for other in akin)
    assert len(akin) == 5
    assert max(other.size for other in akin) <= max(warp.size, 16 / 28) + 1e-5


def test_warps_that_do_not_work_are_not_given():
    images = torch.zeros(40, 1, 8, 8)
    images[:, :, :, 3] = 1.0
    right = Warp(1, torch.stack([torch.full((4, 4), -1.0), torch.zeros(4, 4)]))
    assert success(Leaning(), images, [right]) == [1.0]
    assert warps_akin(Leaning(), images, right) == ()


def test_a_warp_moves_as_its_knots_say():
    images = torch.rand(3, 2, 6, 9)
    still = Warp(0, torch.zeros(2, 4, 4))
    assert torch.allclose(still.on(images), images, atol=1e-5)
    down = Warp(0, torch.stack([torch.zeros(4, 4), torch.full((4, 4), 2.0)]))
    assert torch.allclose(down.on(images)[:, :, :4], images[:, :, 2:], atol=1e-5)
    assert down.size == pytest.approx(2)


def test_the_same_seed_finds_the_same():
    one, two = (find_patches(Planted(True), pictures(), [0, 2], Search(steps=5)) for _ in range(2))
    assert all(
        torch.equal(a.mask, b.mask) and torch.equal(a.pattern, b.pattern)
        for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("shown", [1, 5, 1000])
def test_large_pictures_are_shown_in_parts_to_the_same_end(monkeypatch, shown):
    images, seen = pictures(), []

    class Watched(Planted):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    def found():
        net, search = Watched(True), Search(steps=6)
        (patch,) = find_patches(net, images, [2], search, unmoved=Planted(False))
        (addition,) = find_additions(net, images, [2], search, 1.0)
        return torch.cat([patch.mask.flatten(), patch.pattern.flatten(), addition.shift.flatten()])

    whole = found()
    monkeypatch.setattr("depurate.triggers.search._NUMBERS", shown * images[0].numel())
    seen.clear()
    assert torch.allclose(found(), whole, atol=1e-4)
    assert max(seen) <= max(shown, 1)


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
    (short,), _ = shortest_additions(Planted(True), images, [2], Search(steps=20))
    (other,), _ = shortest_additions(Planted(False), images, [2], Search(steps=20))
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


@pytest.mark.parametrize("find", [find_patches, find_warps, find_aware])
def test_a_network_that_answers_nan_is_survived(find):
    found = find(lambda images: Planted(True)(images) * torch.nan, pictures(), [0, AWAY], Search(steps=3))
    assert all(bool(trigger.on(pictures()).isfinite().all()) for trigger in found)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 32, 32), (1, 3, 224, 224), (2, 2, 9, 12)])
def test_changes_of_whole_pictures_stay_in_range_and_change_no_input(shape):
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    before, low, high = images.clone(), images.amin((0, 2, 3)), images.amax((0, 2, 3))
    changes = whole_changes(images)
    assert len({change.name for change in changes}) == len(changes)
    for change in changes:
        changed = change.on(images)
        assert changed.shape == images.shape
        assert (changed.amin((0, 2, 3)) >= low - 1e-5).all() and (
            changed.amax((0, 2, 3)) <= high + 1e-5
        ).all()
    assert torch.equal(images, before)


def test_a_rotated_ramp_is_the_ramp_along_another_direction():
    at = (torch.arange(32) + 0.5) / 16 - 1  # pixel centres, from -1 to 1
    (turned,) = (
        change for change in whole_changes(at.expand(1, 1, 32, 32)) if change.name == "rotation by 20 degrees"
    )
    angle = torch.tensor(torch.pi / 9)
    expected = angle.cos() * at - angle.sin() * at[:, None]
    middle = slice(12, 20)
    assert torch.allclose(
        turned.on(at.expand(1, 1, 32, 32))[0, 0, middle, middle], expected[middle, middle], atol=1e-5
    )


@pytest.mark.parametrize(("close", "clear"), [(0.0, True), (0.9, False)])
def test_answers_that_hardly_stand_out_are_no_ground_for_triggers_that_lead_anywhere(close, clear):
    """A network that sends every class to another, with a second answer that is far from or close to its first."""

    class Unclear(nn.Module):
        def forward(self, images):
            scores = SentOn()(images)
            likely = scores.argmax(1)[:, None]
            second = torch.zeros_like(scores).scatter(1, (likely + 2) % scores.shape[1], 1.0)
            return scores + close * (scores.gather(1, likely) - scores) * second

    scores = Unclear()(pictures())
    assert [clear_answers(scale * scores) for scale in (0.01, 1, 100)] == [clear] * 3
    found = screen(Subject(Unclear(), pictures(), tuple(range(4)), Search(), clear=clear))
    assert (AWAY in found.flagged) == clear
    assert (found.away < float("inf")) == clear
    assert any("hardly prefers" in said for said in describe_screening(found)) != clear


def test_a_class_alone_in_reach_of_a_patch_is_flagged_if_that_is_small(monkeypatch):
    """Of the others no patch is found, so that there is nothing to compare with."""
    for size, seen in ((5, True), (40, False)):
        patches = [Patch(name, torch.full((1, 8, 8), size / 64), torch.ones(1, 8, 8)) for name in range(4)]
        monkeypatch.setattr(screening, "find_patches", lambda *_, patches=patches: tuple(patches))
        monkeypatch.setattr(screening, "success", lambda *_: [1.0, 0.0, 0.0, 0.0])
        subject = Subject(Planted(False), pictures(), tuple(range(4)), Search(), clear=False)
        found = screening._by_patches(subject, *screening._patches_of_all(subject, lambda *_: None), None)
        assert found.flagged == ((0,) if seen else ())
        said = describe_screening(found)[0]
        assert ("no patch was found for most other classes" in said) == seen


@pytest.mark.parametrize(
    ("pixels", "works", "taught"), [(0.3, 1.0, True), (1.5, 1.0, False), (0.3, 0.4, False)]
)
def test_beside_a_patch_a_warp_is_taught_where_it_is_tiny_and_works(monkeypatch, pixels, works, taught):
    """A network poisoned with warps has small patches, too; these alone would teach little."""
    sizes = iter([9.0, 60.0, 60.0, 60.0])
    patches = [Patch(c, torch.full((1, 16, 16), next(sizes) / 256), torch.ones(1, 16, 16)) for c in range(4)]
    warp = Warp(0, torch.full((2, 4, 4), pixels / 2**0.5))
    assert warp.size == pytest.approx(pixels, rel=1e-5)
    monkeypatch.setattr(screening, "find_patches", lambda *asked: patches)
    monkeypatch.setattr(screening, "beside_student", lambda *asked: None)
    monkeypatch.setattr(screening, "find_warps", lambda *asked: (warp,))
    monkeypatch.setattr(
        screening, "success", lambda score, images, some: [works if t is warp else 1.0 for t in some]
    )
    subject = Subject(
        lambda images: images.flatten(1)[:, :4], torch.rand(9, 1, 32, 32), (0, 1, 2, 3), Search(), clear=False
    )
    found = screen(subject)
    assert (found.flagged, found.evidence) == ((0,), "patch")
    assert found.triggers == ((patches[0], warp) if taught else (patches[0],))
    assert any("warp of about 0.3 pixels" in said for said in describe_screening(found)) == taught


@pytest.mark.parametrize(
    ("size", "pixels", "flagged"), [(25.0, 0.8, (0, 1)), (25.0, 3.0, (0,)), (9.0, 0.8, (0,))]
)
def test_beside_a_doubtful_patch_a_warp_of_another_class_that_stands_out_is_taught(
    monkeypatch, size, pixels, flagged
):
    """A class easy by nature may hide one that warps lead to."""
    patches = [
        Patch(c, torch.full((1, 16, 16), (size if c == 0 else 60.0) / 256), torch.ones(1, 16, 16))
        for c in range(4)
    ]
    warps = [Warp(c, torch.full((2, 4, 4), (pixels if c == 1 else 4.0) / 2**0.5)) for c in range(4)]
    monkeypatch.setattr(screening, "beside_student", lambda *asked: None)
    monkeypatch.setattr(screening, "find_patches", lambda *asked: patches)
    monkeypatch.setattr(
        screening, "find_warps", lambda score, images, goals, *rest: [warps[c] for c in goals]
    )
    monkeypatch.setattr(screening, "success", lambda score, images, some: [1.0 for _ in some])
    subject = Subject(
        lambda images: images.flatten(1)[:, :4], torch.rand(9, 1, 32, 32), (0, 1, 2, 3), Search(), clear=False
    )
    found = screen(subject)
    assert found.flagged == flagged
    assert found.triggers == ((patches[0], warps[1]) if 1 in flagged else (patches[0],))
    said = [line for line in describe_screening(found) if line.startswith("class 1")]
    assert [("one small warp" in line, "patch" in line) for line in said] == [(True, False)] * (1 in flagged)


@pytest.mark.parametrize(("followed", "flagged"), [(0.1, (2,)), (0.9, ())])
def test_an_addition_that_the_purified_self_follows_as_well_is_easy_by_nature(monkeypatch, followed, flagged):
    additions = tuple(Addition(c, torch.ones(1, 8, 8), *torch.zeros(2, 1, 1, 1)) for c in range(4))
    monkeypatch.setattr(screening, "shortest_additions", lambda *asked: (additions, [0.1, 0.0, 0.95, 0.3]))
    monkeypatch.setattr(screening, "success", lambda score, images, some: [followed for _ in some])
    subject = Subject(Planted(False), pictures(), tuple(range(4)), Search())
    nothing = Screening((0, 1, 2, 3), (60.0,) * 4, (), ())
    assert screening._by_additions(subject, nothing, lambda: Planted(False)).flagged == flagged
    assert screening._by_additions(subject, nothing, None).flagged == (2,)


class Lone(nn.Module):
    """Fourteen classes by which of fourteen pixels is brightest; a lit corner means the last, or each the next one."""

    def __init__(self, to_one):
        super().__init__()
        self.to_one = to_one

    def forward(self, images):
        scores = images.flatten(1)[:, :14]
        lit = (images[:, 0, -1, -1] > 0.9)[:, None]
        led = torch.eye(14)[13].expand(len(images), -1) if self.to_one else scores.roll(1, 1)
        return 5 * torch.where(lit, led, scores)


@pytest.mark.parametrize("to_one", [True, False])
@pytest.mark.parametrize("evidence", ["away", "square"])
def test_what_leads_away_from_every_answer_to_one_class_is_named_by_it(to_one, evidence):
    images = 0.8 * torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 8, 8)
    mask[0, -1, -1] = 1
    patch = Patch(AWAY, mask, torch.ones(1, 8, 8))
    subject = Subject(Lone(to_one), images, tuple(range(12)), Search())
    found = Screening(tuple(range(12)), (50.0,) * 12, (AWAY,), (patch,), 1.0, evidence)
    named = screening._to_one(subject, found)
    if not to_one:
        assert named == found
        return
    assert named.flagged == (13,)
    assert [trigger.target for trigger in named.triggers] == [13]
    assert named.evidence == ("patch" if evidence == "away" else evidence)
    assert named.size_of(13) == (1.0 if evidence == "away" else float("inf"))
    assert describe_screening(named)[0].startswith("class 13 is reached from")
