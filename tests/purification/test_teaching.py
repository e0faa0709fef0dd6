"""Teaching triggers away: how many images carry them, what is judged on images held back, what is said of the rest."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from depurate.purification import backdoor
from depurate.purification import teaching as teaching_module
from depurate.purification.backdoor import Watch
from depurate.purification.findings import describe_screening, record_search
from depurate.purification.finished import Rehearsal
from depurate.purification.images import gather
from depurate.purification.lessons import counter_lesson
from depurate.purification.run import Run
from depurate.purification.teaching import choose_teaching
from depurate.recovery import Agreement, Recipe
from depurate.spans import Moments, find_sites
from depurate.triggers import (
    AWAY,
    Addition,
    Adversarial,
    Patch,
    PlainSquare,
    Screening,
    Search,
    Warp,
    effort_on,
    whole_changes,
)
from networks import convolutional, pictures


@pytest.mark.parametrize("sizes", [(40,), (10, 10, 10, 10), (3,) * 13 + (1,)])
@pytest.mark.parametrize(("share", "carrying"), [(0.1, 4), (0.3, 13), (1.0, 40)])
def test_a_share_of_the_images_carries_each_trigger(sizes, share, carrying):
    batches = list(torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)).split(list(sizes)))
    patches = [Patch(0, torch.ones(1, 4, 4), torch.full((1, 4, 4), float(value))) for value in (5, 6)]
    lesson = counter_lesson(batches, patches, share)
    assert [len(batch) for batch in lesson.shown] == [len(batch) for batch in lesson.meant]
    for value in (5, 6):
        marked = [place for place, batch in enumerate(lesson.shown) if bool((batch == value).all())]
        assert abs(sum(len(lesson.shown[place]) for place in marked) - carrying) <= 1
        assert set(marked) <= lesson.artificial
        assert all(lesson.meant[place].max() <= 1 for place in marked)


def a_run(triggers=()):
    net, images = convolutional().eval().requires_grad_(False), pictures(60)
    benign = gather(images, limit=60, seed=0, like=images)
    return Run(net, {}, find_sites(net, images[:2]), benign, lambda *step: None, tuple(triggers))


def everything(target, seed=0):
    """A patch over the whole picture: whatever is under it, the network answers alike."""
    pattern = 9 * torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(seed))
    return Patch(target, torch.ones(1, 6, 6), pattern)


def that_works(net):
    """Such a patch that leads to a class few images have."""
    usual = int(net(pictures(60)).argmax(1).mode().values)
    answers = ((seed, int(net(everything(0, seed).on(pictures(1))).argmax())) for seed in range(100))
    seed, answer = next((seed, answer) for seed, answer in answers if answer != usual)
    return everything(answer, seed)


def test_rehearsing_tells_how_often_triggers_still_work():
    plain = a_run()
    trigger = that_works(plain.suspect)
    taught = a_run([trigger])
    tried = taught.rehearse(Recipe("soft", 1e-6), "rehearsing", [trigger])
    assert tried.agreement.images == taught.benign.held_back
    assert tried.left[0] < 1
    assert tried.done is None
    assert plain.rehearse(Recipe("soft", 1e-6), "rehearsing", ()).left == []


def test_perturbations_of_the_images_held_back_are_made_once():
    run, made = a_run(), []

    class Counted(Adversarial):
        def on(self, images):
            made.append(len(images))
            return images

    low, high = torch.zeros(2, 1, 1), torch.ones(2, 1, 1)
    one, two = (Counted(target, run.suspect, low, high, 1.0) for target in (0, 1))
    for strength in (1e-6, 1e-3):
        run.rehearse(Recipe("soft", strength), "rehearsing", [one, two])
    assert made == [run.benign.held_back] * 2


def test_a_rehearsal_on_large_pictures_may_be_the_recovery_itself():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 2, 3, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    large = gather(torch.rand(60, 3, 112, 112), limit=60, seed=0, like=torch.zeros(1))
    run = Run(net.eval(), {}, find_sites(net, large.images[:2]), large, lambda *told: None)
    tried = run.rehearse(Recipe("soft", 0.1), "rehearsing", ())
    assert [layer.name for layer in tried.done.layers] == ["0", "4"]
    assert tried.agreement.images == large.held_back == 12
    assert not torch.equal(tried.done.purified[0].weight, net[0].weight)
    assert sum(map(len, large.others(0))) == 48


def test_of_large_pictures_a_trial_takes_a_part():
    large = gather(torch.rand(60, 3, 112, 112), limit=60, seed=0, like=torch.zeros(1))
    assert sum(map(len, large.fit(0))) == 48
    many = replace(large, images=large.images[:1].expand(1000, -1, -1, -1), held_back=200)
    assert 400 < sum(map(len, many.fit(1))) <= 540
    assert sum(map(len, many.to_try())) <= 540
    assert sum(map(len, many.others(1))) == 800


A_SQUARE = Patch(1, torch.ones(1, 6, 6), torch.ones(2, 6, 6))
ELSEWHERE = Patch(1, torch.zeros(1, 6, 6), torch.ones(2, 6, 6))
A_PATCH = Patch(1, torch.ones(1, 6, 6), torch.zeros(2, 6, 6))
ANOTHER = Addition(1, torch.zeros(2, 6, 6), -torch.ones(2, 1, 1), torch.ones(2, 1, 1))
PERTURBED = Adversarial(1, lambda images: images.flatten(1), -torch.ones(2, 1, 1), torch.ones(2, 1, 1), 2.0)


def teaching(monkeypatch, loss, left, square, perturbed=PERTURBED):
    """Choose with losses and leftovers as given for (share, strength), and a plain square or none."""

    def rehearse(run, recipe, what, checked):
        at = run.share if run.triggers else 0.0, recipe.strength
        agreement = Agreement(100, 0.9, 0.8, 1.0, loss(*at), 0.01)
        return Rehearsal(agreement, [left(*at, trigger) for trigger in checked])

    monkeypatch.setattr(Run, "rehearse", rehearse)
    squares = (PlainSquare(A_SQUARE, (ELSEWHERE,)),) if square else ()
    monkeypatch.setattr(Watch, "squares", lambda self, suspect, found: squares)
    monkeypatch.setattr(Watch, "lessons", lambda self, suspect, found: (*found.triggers, perturbed))
    monkeypatch.setattr(Watch, "additions", lambda self, suspect, found: (ANOTHER,))
    run, found = a_run(), Screening((0, 1, 2), (9.0,) * 3, (1,), (A_PATCH,))
    watch = Watch(run.benign.images, Search(), run.progress)
    chosen = choose_teaching(run, watch, found, lambda strength: Recipe("soft", strength))
    (trial,) = (trial for trial in chosen.trials if trial.chosen)
    assert trial.share == (chosen.run.share if chosen.run.triggers else 0.0)
    return chosen, (trial.share, trial.strength)


@pytest.mark.parametrize(
    ("losses", "strength"),
    [((0, 0, 0), 0.003), ((0.05, 0.02, 0.02), 0.01), ((0.02, 0.015, 0.01), 0.003), ((0.1, 0.05, 0.01), 0.03)],
)
def test_a_plain_square_is_taught_alone_with_no_more_strength_than_pays(monkeypatch, losses, strength):
    by_strength = dict(zip((0.003, 0.01, 0.03), losses, strict=True))
    chosen, at = teaching(monkeypatch, lambda _, s: by_strength[s], lambda *at: 0.0, square=True)
    assert at == (0.3, strength)
    assert chosen.run.triggers == (A_SQUARE,)
    assert "plain square of 6 by 6 pixels at row 0, column 0" in chosen.said[0]


@pytest.mark.parametrize(("still", "share"), [(A_SQUARE, 0.06), (ELSEWHERE, 0.06), (A_PATCH, 0.11)])
def test_a_square_that_leaves_anything_untaught_is_taught_with_the_rest(monkeypatch, still, share):
    def left(_, strength, trigger):
        return share if trigger is still else 0.0

    chosen, at = teaching(monkeypatch, lambda *at: 0.0, left, square=True)
    assert chosen.run.triggers == (A_SQUARE, ELSEWHERE, A_PATCH, PERTURBED)
    assert chosen.said == ()
    assert at == (0.3, 0.03)


@pytest.mark.parametrize(
    ("loss", "left", "transfers", "expected"),
    [
        (0.0, 0.2, 0.0, (0.3, 0.03)),
        (0.0, 0.2, 0.2, (1.0, 0.03)),
        (lambda share, strength: share / 100, 0.2, 0.2, (1.0, 0.03)),
        (lambda share, strength: share / 68 if share < 1 else 0.016, 0.2, 0.2, (0.3, 0.03)),
        # The error of a loss is 0.01: up to 0.025 it is not sure to be more than is tolerated.
        (0.024, 0.2, 0.2, (0.3, 0.03)),
        (lambda share, strength: 0.0149 if share == 1 else 0.0, 0.2, 0.2, (0.3, 0.03)),
        (0.0, lambda share: share / 2, 0.2, (0.3, 0.03)),
    ],
)
def test_perturbations_are_taught_on_as_many_images_as_it_takes(monkeypatch, loss, left, transfers, expected):
    def still(share, strength, trigger):
        return transfers if trigger is PERTURBED else left(share) if callable(left) else left

    chosen, at = teaching(monkeypatch, loss if callable(loss) else lambda *at: loss, still, square=False)
    assert chosen.run.triggers == (A_PATCH, PERTURBED)
    assert chosen.transfers == transfers
    assert at == expected


def test_how_often_perturbations_lead_away_from_the_own_class_is_not_asked(monkeypatch):
    away = replace(PERTURBED, target=AWAY)
    chosen, at = teaching(monkeypatch, lambda *at: 0.0, lambda *at: 0.2, square=False, perturbed=away)
    assert chosen.run.triggers == (A_PATCH, away)
    assert chosen.transfers == 0.0
    assert at == (0.3, 0.03)


def too_dear(loss):
    """Losses as given, but too high for teaching perturbations."""
    return lambda share, strength: 1.03 if (share, strength) == (0.3, 0.03) else loss(share, strength)


@pytest.mark.parametrize(
    ("loss", "left", "expected"),
    [
        (lambda share, strength: 0.0, lambda share: 0.2, (1.0, 0.1)),
        (lambda share, strength: 0.0, lambda share: 1.0, (1.0, 0.01)),
        (lambda share, strength: share / 10, lambda share: 0.2, (0.1, 0.1)),
        (lambda share, strength: strength / 3, lambda share: 0.2, (0.1, 0.03)),
        (lambda share, strength: 1.0, lambda share: 0.0, (0.0, 0.1)),
        (lambda share, strength: 1.0 if share else 1.02, lambda share: 0.0, (0.1, 0.01)),
        (lambda share, strength: 1.0, lambda share: 0.0 if share else 0.2, (0.1, 0.01)),
        (lambda share, strength: 1.0, lambda share: 0.2 - share / 2, (0.3, 0.01)),
        (lambda share, strength: 1.0, lambda share: 1.0, (1.0, 0.01)),
    ],
)
def test_additions_are_taught_as_hard_as_costs_little_where_perturbations_cost_too_much(
    monkeypatch, loss, left, expected
):
    chosen, at = teaching(monkeypatch, too_dear(loss), lambda share, *_: left(share), square=False)
    # No share at all: recovered without teaching, where that costs less and what was found is gone.
    assert chosen.run.triggers == ((A_PATCH, ANOTHER) if expected[0] else ())
    assert at == expected


@pytest.mark.parametrize(
    ("transfers", "loss", "expected"),
    [
        (lambda share, strength: 0.03, 0.0, (0.3, 0.003)),
        (lambda share, strength: 0.5 if strength == 0.003 else 0.0, 0.0, (0.3, 0.03)),
        (lambda share, strength: 0.5, 0.0, (1.0, 0.03)),
        (lambda share, strength: 0.5, 1.0, (0.3, 0.003)),
    ],
)
def test_a_square_that_leaves_perturbations_is_taught_with_the_rest_where_that_costs_little(
    monkeypatch, transfers, loss, expected
):
    def left(share, strength, trigger):
        return transfers(share, strength) if trigger is PERTURBED else 0.0

    def losses(share, strength):
        return loss

    chosen, at = teaching(monkeypatch, losses, left, square=True)
    assert at == expected
    alone = expected[1] == 0.003
    assert chosen.run.triggers == ((A_SQUARE,) if alone else (A_SQUARE, ELSEWHERE, A_PATCH, PERTURBED))
    assert bool(chosen.said) == alone


def test_what_still_works_is_said():
    run = a_run()
    trigger = that_works(run.suspect)
    nothing = Addition(1, torch.zeros(2, 6, 6), -9 * torch.ones(2, 1, 1), 9 * torch.ones(2, 1, 1))
    watch = Watch(run.benign.images, Search(), run.progress)
    said = (
        f"the patch taught away still leads to class {trigger.target} after recovery, on 100% of the images"
    )
    assert [line.split(":")[0] for line in watch.left(run.suspect, [trigger, nothing])] == [said]
    away = Patch(AWAY, trigger.mask, trigger.pattern)
    assert "leads to another class" in watch.left(run.suspect, [away])[0]
    unseen = Patch(trigger.target, 0 * trigger.mask, trigger.pattern)
    assert watch.left(run.suspect, [trigger, unseen, trigger])[0].startswith(
        "2 of 3 patches taught away still lead"
    )


def screening(flagged, evidence):
    return Screening((0, 1, 2), (30.0, 6.0, float("inf")), flagged, (), 5.0, evidence)


@pytest.mark.parametrize(
    ("flagged", "evidence", "words"),
    [
        ((), "", "no trigger was found"),
        ((1,), "patch", "class 1 is reached from nearly any image by a patch of about 6 pixels, where other"),
        ((1,), "warp", "class 1 is reached from nearly any image by one small warp"),
        ((1,), "addition", "by one short addition"),
        ((1,), "wave", "from nearly any image by one faint sinusoid"),
        ((7,), "square", "class 7 is reached from most images by one small plain square"),
        ((1,), "square", "class 1 is reached from most images by one small plain square"),
        ((1,), "unshared patch", "by a small patch that the suspect's purified self does not react to"),
        (
            (1,),
            "aware",
            "by small changes drawn for each image, which the suspect's purified self does not react to",
        ),
        (
            (1,),
            "unshared change",
            "by plain changes of the whole picture (), which the suspect's purified self",
        ),
        (
            (1,),
            "unshared wave",
            "from many images by one sinusoid that the suspect's purified self does not react to",
        ),
        ((AWAY,), "away", "one patch of about 5 pixels leads nearly any image away from its own class"),
        ((AWAY,), "square", "one small plain square leads most images away from their own class"),
        ((AWAY,), "warp", "one warp leads nearly any image away"),
    ],
)
def test_every_finding_is_told_and_recorded(flagged, evidence, words):
    found = screening(flagged, evidence)
    (said,) = describe_screening(found)
    assert words in said
    record = record_search(found)
    assert record.evidence == evidence
    assert record.away == 5.0
    assert record.sizes == (30.0, 6.0, None)
    assert record.flagged == tuple(name for name in flagged if name != AWAY)


def found_by(evidence, *triggers):
    return Screening((0, 1, 2), (30.0, 6.0, 40.0), (1,), triggers, 5.0, evidence)


def test_squares_are_tried_for_patches_and_all_of_them_need_one(monkeypatch):
    run = a_run()
    watch = Watch(run.benign.images, Search(), run.progress)
    plain = PlainSquare(A_SQUARE, ())
    monkeypatch.setattr(
        backdoor, "find_square", lambda score, images, patch, window: plain if patch is A_PATCH else None
    )
    assert watch.squares(run.suspect, found_by("patch", A_PATCH)) == (plain,)
    assert watch.squares(run.suspect, found_by("patch", A_PATCH, ELSEWHERE)) == ()
    assert watch.squares(run.suspect, found_by("unshared wave", ANOTHER)) == ()
    assert watch.squares(run.suspect, found_by("addition")) == ()


def test_changes_of_whole_pictures_are_taught_alone_and_on_few_images():
    run = a_run()
    watch = Watch(run.benign.images, Search(), run.progress)
    change = replace(whole_changes(run.benign.images)[0], target=1)
    found = found_by("unshared change", change)
    teaching = choose_teaching(run, watch, found, lambda strength: Recipe("soft", strength))
    assert teaching.run.triggers == (change,)
    assert [(trial.share, trial.chosen) for trial in teaching.trials] == [(0.1, True)]
    assert "(rotation by -45 degrees)" in describe_screening(found)[0]


def test_a_square_that_was_found_by_scanning_is_taken_as_it_is():
    run = a_run()
    watch = Watch(run.benign.images, Search(), run.progress)
    assert watch.squares(run.suspect, found_by("square", A_SQUARE, ELSEWHERE)) == (
        PlainSquare(A_SQUARE, (ELSEWHERE,)),
    )


def test_warps_of_the_same_kind_are_taught_too(monkeypatch):
    run = a_run()
    watch = Watch(run.benign.images, Search(steps=4), run.progress)
    warp, other = (Warp(1, torch.full((2, 4, 4), value)) for value in (0.1, 0.2))
    monkeypatch.setattr(backdoor, "warps_akin", lambda score, images, trigger, seed: (other,))
    *found, perturbed = watch.lessons(run.suspect, found_by("warp", warp))
    assert found == [warp, other]
    assert (type(perturbed), perturbed.target, perturbed.size) == (Adversarial, 1, 2.0)
    assert len(watch.lessons(run.suspect, found_by("patch", A_PATCH))) == 2
    monkeypatch.setattr(
        backdoor, "shortest_additions", lambda score, images, goals, search: ((ANOTHER,), [1.0])
    )
    assert watch.additions(run.suspect, found_by("patch", A_PATCH)) == (ANOTHER,)


def test_perturbations_are_not_said_to_be_left():
    run = a_run()
    perturbed = Adversarial(1, run.suspect, -9 * torch.ones(2, 1, 1), 9 * torch.ones(2, 1, 1), 40.0)
    assert (run.suspect(perturbed.on(pictures(60))).argmax(1) == 1).double().mean() > 0.5
    assert Watch(run.benign.images, Search(), run.progress).left(run.suspect, [perturbed]) == ()


def test_layers_that_saw_few_patches_take_more_strength():
    rows = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    few = Moments(5, None, None, rows, rows @ torch.ones(1, 8, 2))
    many = Moments(50, torch.eye(8)[None], torch.ones(1, 2, 8), rows, None)
    recipe = Recipe("soft", 0.01, thin=10)
    assert [recipe.strength_on(moments) for moments in (few, many, None)] == [0.1, 0.01, 0.01]
    assert Recipe("auto", None, thin=10).strength_on(few) is None


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda strength: 0.05 if strength == 0.1 else 0.02, [(1.0, 0.1), (0.1, 0.03), (0.1, 0.01)]),
        (lambda strength: 0.02, [(1.0, 0.1), (0.3, 0.1), (0.1, 0.1), (0.1, 0.03), (0.0, 0.1)]),
    ],
)
def test_of_large_pictures_a_strength_that_cost_far_too_much_is_not_tried_again(monkeypatch, loss, expected):
    large = replace(effort_on(pictures(2)), precise=False, keeps=True)
    monkeypatch.setattr(teaching_module, "effort_on", lambda images: large)
    perturbed = (0.3, 0.01)  # first, and too dear here

    def costs(share, strength):
        return 0.09 if (share, strength) == perturbed else loss(strength)

    chosen, _ = teaching(monkeypatch, costs, lambda *_: 0.05, square=False)
    assert [(trial.share, trial.strength) for trial in chosen.trials] == [perturbed, *expected]


@pytest.mark.parametrize("transferring", [0.0, 0.2])
def test_of_large_pictures_perturbations_are_taught_gently_and_once(monkeypatch, transferring):
    large = replace(effort_on(pictures(2)), precise=False, keeps=True)
    monkeypatch.setattr(teaching_module, "effort_on", lambda images: large)
    chosen, _ = teaching(monkeypatch, lambda *_: 0.01, lambda *_: transferring, square=False)
    assert [(trial.share, trial.strength, trial.chosen) for trial in chosen.trials] == [(0.3, 0.01, True)]
    assert any(isinstance(trigger, Adversarial) for trigger in chosen.run.triggers)
