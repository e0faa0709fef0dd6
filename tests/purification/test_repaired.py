"""Damage and a backdoor in one network: repaired first, then searched."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest

from depurate import purify
from depurate.contamination import parse_noise
from depurate.demo.backdoor import rates, train_backdoored
from depurate.demo.digits import read_digits
from depurate.purification import repaired
from depurate.purification.finished import Finished
from depurate.purification.plan import Plan
from depurate.purification.repaired import look_behind
from depurate.recovery import Guarantee, Guessed, Recipe
from depurate.report.verdict import judge
from depurate.triggers import Screening


@pytest.fixture(scope="module")
def network():
    digits = read_digits(seed=0)
    return train_backdoored(digits, seed=0).suspect, digits


def hit(network, noise):
    after = parse_noise(noise).apply(network.state_dict(), 1)
    suspect = copy.deepcopy(network)
    suspect.load_state_dict(after.values)
    return suspect, after


@pytest.mark.parametrize("noise", ["nonfinite:rate=0.01", "bitflip:rate=1e-4,bits=exponent"])
def test_a_backdoor_behind_damage_is_found_and_removed(network, noise):
    trained, digits = network
    before = rates(trained, digits)
    assert before.attack_success > 0.95
    suspect, after = hit(trained, noise)
    result = purify(suspect, digits.benign)
    assert result.record.search.flagged == (0,)
    purified = rates(result.model, digits)
    assert purified.attack_success < 0.1
    assert purified.accuracy > before.accuracy - 0.04
    said = result.record.warnings
    assert any("treated as damaged memory" in each for each in said)
    assert any("looked for in the repaired network" in each for each in said)
    softened = [layer for layer in result.layers if layer.method == "soft"]
    assert softened and all(layer.guarantee is Guarantee.APPROXIMATE for layer in softened)
    struck = [layer for layer in softened if layer.contaminated]
    assert struck and all(
        "then recovered from the repaired layer" in " ".join(layer.notes) for layer in struck
    )
    assert result.record.repaired_first
    assert any("Before that, entries taken for hit" in each for each in judge(result.record).done)
    assert any("repaired and purified network gave the same" in each for each in judge(result.record).trust)
    assert sum(layer.nonfinite for layer in result.layers) == sum(
        int((~value.isfinite()).sum()) for value in after.values.values()
    )


def test_robust_repairs_and_looks_for_nothing(network):
    trained, digits = network
    suspect, _ = hit(trained, "nonfinite:rate=0.01")
    result = purify(suspect, digits.benign, method="robust")
    assert result.record.search is None
    assert "no backdoor was looked for: that is done by the auto method" in result.record.warnings
    assert rates(result.model, digits).attack_success > 0.9


FOUND = Screening((0, 1, 2), (9.0, 60.0, 50.0), (0,), (), evidence="patch")
PLAN = Plan(SimpleNamespace(), Recipe("auto", None, repair=True), warnings=("repaired",))


@pytest.mark.parametrize(
    ("plan", "noisy", "replaced", "searched"),
    [
        (PLAN, False, True, True),
        (PLAN, False, False, True),
        (PLAN, True, False, True),
        (replace(PLAN, recipe=Recipe("robust", None)), False, True, False),
        (replace(PLAN, recipe=Recipe("auto", None)), False, True, False),
        (replace(PLAN, screening=FOUND), False, True, False),
    ],
)
def test_only_what_auto_repaired_is_searched(monkeypatch, plan, noisy, replaced, searched):
    asked = []

    def look(run, watch, strength, recipe_at, *, mended):
        asked.append(mended)
        return replace(PLAN, warnings=("found",), screening=replace(FOUND, flagged=()))

    monkeypatch.setattr(repaired, "against_a_backdoor", look)
    monkeypatch.setattr(
        repaired, "replace", lambda thing, **new: thing if "latest" in new else replace(thing, **new)
    )
    monkeypatch.setattr(repaired, "guessed_behind", lambda run, done: frozenset())
    scales = (Guessed("1.weight", 1, 16),) * replaced
    result = look_behind(plan, plan.run, Finished(None, None, (), 0, scales, noisy), None, None, None)
    assert asked == ([replaced] if searched else [])
    assert result.run is plan.run
    if noisy:
        assert "the weights may hold no noise at all" in result.warnings[1]
    if searched:
        assert (result.warnings[0], result.warnings[-1]) == ("repaired", "found")
    else:
        assert result is plan
