"""Distillation: what may be done to benign images, what is learnt from them, and when its result is taken."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from depurate import InputError, purify
from depurate.demo import rates, read_digits, train_backdoored
from depurate.purification import refining
from depurate.purification.backdoor import Watch
from depurate.purification.distillation import Distillation, distil
from depurate.purification.images import gather
from depurate.purification.plan import Plan
from depurate.purification.refining import refine
from depurate.purification.run import Run
from depurate.purification.variations import Variations, tolerated
from depurate.recovery import Recipe
from depurate.spans import find_sites
from depurate.triggers import AWAY, Adversarial, Patch, Search
from networks import convolutional, pictures

LAYERS = ["0", "3", "6"]
HOW = Distillation(epochs=3, batch=20)


@settings(max_examples=25, deadline=None)
@given(
    reach=st.integers(0, 3),
    mirrored=st.booleans(),
    seed=st.integers(0, 1000),
    height=st.integers(2, 5),
    width=st.integers(2, 5),
)
def test_every_varied_image_is_a_moved_copy_of_its_own(reach, mirrored, seed, height, width):
    images = torch.rand(6, 2, height, width, generator=torch.Generator().manual_seed(seed))
    kept = images.clone()
    varied = Variations(reach, mirrored).on(images, torch.Generator().manual_seed(seed))
    assert torch.equal(images, kept)
    rows, columns = torch.arange(height), torch.arange(width)
    for image, other in zip(images, varied, strict=True):
        possible = [
            image[:, (rows + down).clamp(0, height - 1)][:, :, (columns + right).clamp(0, width - 1)]
            for down in range(-reach, reach + 1)
            for right in range(-reach, reach + 1)
        ]
        possible += [one.flip(2) for one in possible] if mirrored else []
        assert any(torch.equal(other, one) for one in possible)


def test_some_images_are_mirrored_and_some_are_not():
    images = torch.arange(4.0).expand(50, 1, 4, 4)
    varied = Variations(0, mirrored=True).on(images, torch.Generator().manual_seed(0))
    assert 10 < sum(torch.equal(one, images[0].flip(2)) for one in varied) < 40


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda images: images.mean((1, 2, 3)), Variations(1, mirrored=True)),
        (lambda images: images[:, 0, :, :4].mean((1, 2)), Variations(1, mirrored=False)),
        (lambda images: 9 * (images[:, 0, 3, 3] > 0.5).float(), Variations(0, mirrored=False)),
    ],
)
def test_images_are_varied_as_far_as_the_answers_bear_it(answer, expected):
    """Bright or dark; bright or dark on the left; lit in one place or not."""
    images = torch.zeros(40, 1, 8, 8)
    images[:20, :, :, :4] = 1
    images[20:, :, 3, 3] = torch.tensor([0.0, 1.0]).repeat(10)[:, None]

    def score(shown):
        at = answer(shown)
        return torch.stack([at, 0.3 - at], 1)

    assert tolerated(score, images, torch.Generator().manual_seed(0)) == expected


def distilled(suspect, purified, triggers, how=HOW, layers=LAYERS, told=lambda done, total: None):
    return distil(suspect, purified, layers, list(pictures(40).split(15)), triggers, how, told)


def a_patch(target=1):
    return Patch(target, torch.ones(1, 6, 6), torch.full((2, 6, 6), 3.0))


def state(net):
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


def test_only_the_layers_named_change_and_neither_network_given():
    suspect, purified = convolutional(0).eval(), convolutional(1).eval()
    before = state(suspect), state(purified)
    steps = []
    new = distilled(suspect, purified, [a_patch()], layers=["3"], told=lambda *step: steps.append(step))
    assert same(state(suspect), before[0]) and same(state(purified), before[1])
    changed = {key for key, value in new.state_dict().items() if not torch.equal(value, before[1][key])}
    assert changed == {"3.weight", "3.bias"}
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert not any(parameter.requires_grad for parameter in new.parameters())
    assert not new.training


def test_a_seed_fixes_it_and_global_randomness_nothing():
    suspect, purified = convolutional(0).eval(), convolutional(1).eval()
    one = distilled(suspect, purified, [a_patch()])
    torch.manual_seed(99)
    assert same(state(one), state(distilled(suspect, purified, [a_patch()])))
    assert not same(state(one), state(distilled(suspect, purified, [a_patch()], replace(HOW, seed=1))))


class Noted(nn.Linear):
    """Keeps a whole number beside its weights, as layers made for few bits do."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.bits = nn.Parameter(torch.tensor(8), requires_grad=False)


def test_layers_may_keep_whole_numbers_beside_their_weights():
    suspect = convolutional(0).eval()
    suspect[6] = Noted(64, 3)
    new = distilled(suspect, suspect, [a_patch()])
    assert new[6].bits == 8 and not torch.equal(new[6].weight, suspect[6].weight)


def deciding(seed):
    """A network that gives all its answers to the images, none of them to nearly all."""
    net = convolutional(seed).eval()
    with torch.no_grad():
        net[6].weight.mul_(6)
        net[6].bias.sub_(net(pictures(40)).mean(0))
    return net


def test_it_learns_the_suspects_answers_and_not_the_trigger():
    suspect, purified, images = deciding(0), deciding(1), pictures(40)
    target = int(suspect(a_patch().on(images)).argmax(1).mode().values)
    how = Distillation(epochs=150, batch=20, rate=0.03, weight=1.0)
    new = distilled(suspect, purified, [a_patch(target)], how)
    with torch.no_grad():
        alike = [
            (net(images).argmax(1) == suspect(images).argmax(1)).double().mean() for net in (purified, new)
        ]
        led = new(a_patch().on(images)).argmax(1) == target
    assert alike[1] > max(alike[0], 0.85)
    assert not led.any()


def test_where_a_trigger_leads_away_the_own_answers_are_wanted():
    suspect, images = deciding(0), pictures(40)
    dark = Patch(AWAY, torch.full((1, 6, 6), 0.9), torch.full((2, 6, 6), 3.0))
    own = suspect(images).argmax(1)
    how = Distillation(epochs=100, batch=20, rate=0.03, weight=1.0)
    new = distilled(suspect, suspect, [dark], how)
    kept = [float((net(dark.on(images)).argmax(1) == own).double().mean()) for net in (suspect, new)]
    assert kept[1] > kept[0] + 0.1


def test_a_trigger_whose_goal_all_images_answer_teaches_nothing():
    suspect = convolutional(0).eval()
    with torch.no_grad():
        suspect[6].bias.copy_(torch.tensor([0.0, 99.0, 0.0]))
    new = distilled(suspect, suspect, [a_patch(1)])
    assert all(value.isfinite().all() for value in new.state_dict().values())


def test_a_network_that_answers_nan_is_left_as_it_was():
    suspect, purified = convolutional(0).eval(), convolutional(1).eval()
    with torch.no_grad():
        suspect[6].weight.fill_(float("nan"))
    assert same(state(distilled(suspect, purified, [a_patch()])), state(purified))


PERTURBED = Adversarial(1, lambda images: images.flatten(1), -torch.ones(2, 1, 1), torch.ones(2, 1, 1), 2.0)
# Any network is led away by such: to resist them is no lesson.
PERTURBED_AWAY = replace(PERTURBED, target=AWAY)


def a_plan(images=60, triggers=None, recipe=None, net=None):
    net = net or convolutional().eval().requires_grad_(False)
    shown = pictures(images)
    benign = gather(shown, limit=images, seed=0, like=shown)
    run = Run(
        net,
        {},
        find_sites(net, shown[:2]),
        benign,
        lambda *step: None,
        (a_patch(),) if triggers is None else tuple(triggers),
    )
    plan = Plan(run, recipe or Recipe("soft", 0.1))
    return plan, run, run.final(plan.recipe), Watch.of(shown, Search(), run.progress)


def test_a_refined_recovery_is_accounted_for():
    plan, run, done, watch = a_plan(triggers=[a_patch(), PERTURBED])
    new, finished, said = refine(plan, run, done, ("as before",), watch, HOW)
    (trial,) = new.trials
    assert trial.distilled and trial.chosen and trial.strength == 0.1 and trial.agreement.images == 12
    assert said[0].startswith("distilled: on 12 held-back images") and "perturbations" in said[0]
    assert "as before" not in said
    assert not same(state(finished.purified), state(done.purified))
    for before, after in zip(done.layers, finished.layers, strict=True):
        assert (after.moved != before.moved) == (before.method == "soft")
        assert (after == before) == (before.method != "soft")
    received, now = run.suspect[0].weight, finished.purified[0].weight
    assert finished.layers[0].moved == pytest.approx(
        float((now - received).norm() / received.norm()), rel=1e-5
    )
    assert "distilled together with the other layers" in finished.layers[0].notes[-1]


def test_a_layer_that_is_the_only_one_is_not_said_to_have_others():
    net = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).eval().requires_grad_(False)
    plan, run, done, watch = a_plan(net=net)
    _, finished, _ = refine(plan, run, done, (), watch, HOW)
    assert finished.layers[0].notes[-1].startswith("then distilled: trained")


def test_a_distillation_that_costs_too_much_is_dropped(monkeypatch):
    plan, run, done, watch = a_plan()

    def wrecked(suspect, purified, *rest):
        net = convolutional(7).eval()
        with torch.no_grad():
            net[6].bias.copy_(100 * torch.eye(3)[1])
        return net

    monkeypatch.setattr(refining, "distil", wrecked)
    with torch.no_grad():
        run.suspect[6].bias.copy_(50 * torch.eye(3)[0])
    new, finished, said = refine(plan, run, done, ("as before",), watch, HOW)
    assert finished is done
    assert [trial.chosen for trial in new.trials] == [False]
    assert said[0] == "as before" and said[1].startswith("distillation was tried and dropped")


@pytest.mark.parametrize(
    "change",
    [{"triggers": ()}, {"triggers": (PERTURBED_AWAY,)}, {"recipe": Recipe("soft", 0.1, only={"6": (1,)})}],
)
def test_nothing_is_distilled_where_nothing_was_taught_to_all_layers(change):
    plan, run, done, watch = a_plan(**change)
    new, finished, said = refine(plan, run, done, (), watch, HOW)
    assert new is plan and finished is done
    assert said == (refining._NOTHING_TAUGHT,)


def test_with_too_few_images_to_hold_back_it_is_said_that_nothing_was_checked():
    plan, run, done, watch = a_plan(images=30)
    new, finished, said = refine(plan, run, done, (), watch, HOW)
    assert new.trials == () and finished is not done
    assert said[0] == refining._UNCHECKED


def test_what_was_made_without_the_images_held_back_is_checked_and_taken():
    plan, run, done, watch = a_plan()
    kept = replace(plan, done=done)
    calls = []
    counted = replace(run, progress=lambda *told: calls.append(told[0]))
    new, _, _ = refine(kept, counted, done, (), watch, HOW)
    assert set(calls) == {"rehearsing distillation"}
    assert [trial.distilled for trial in new.trials] == [True]


@pytest.mark.parametrize("method", ["exact", "soft", "robust"])
def test_methods_that_teach_nothing_refuse_to_distil(method):
    with pytest.raises(InputError, match=f"distil: the {method} method looks for no triggers"):
        purify(convolutional(), pictures(), method=method, distil=True)


def test_a_backdoor_in_digits_is_gone_and_accuracy_is_not():
    digits = read_digits(seed=0)
    network = train_backdoored(digits, seed=0)
    result = purify(network.suspect, digits.benign, distil=True)
    before, after = rates(network.suspect, digits), rates(result.model, digits)
    assert before.attack_success > 0.9 and after.attack_success < 0.05
    assert after.accuracy > before.accuracy - 0.03
    assert any(trial.distilled for trial in result.record.trials)


def test_a_network_without_a_backdoor_is_not_distilled():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    result = purify(net, torch.randn(60, 4, generator=torch.Generator().manual_seed(0)), distil=True)
    assert refining._NOTHING_TAUGHT in result.record.warnings
    assert same(state(result.model), state(net))
