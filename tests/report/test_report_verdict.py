from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from depurate.recovery.records import Agreement, Guarantee, LayerRecord, PurifyRecord, TriggerSearch
from depurate.report.summary import key_numbers
from depurate.report.verdict import HEADLINES, Verdict, judge
from report_records import backdoored, certified, held, layer, troubled

floats = st.floats(0, 2) | st.sampled_from([float("nan"), float("inf")])


@st.composite
def layers(draw: st.DrawFn) -> LayerRecord:
    kernels = draw(st.integers(0, 4))
    return layer(
        draw(st.sampled_from(["conv", "fc", "bn"])),
        kernels=kernels,
        fan_in=draw(st.integers(0, 5)),
        method=draw(st.sampled_from(["exact", "soft", "robust", "statistics", "none"])),
        nonfinite=draw(st.integers(0, 2)),
        contaminated=draw(st.integers(0, 3)),
        certified=draw(st.integers(0, kernels)),
        moved=draw(floats),
        off_span=draw(st.none() | floats),
        guarantee=draw(st.sampled_from(list(Guarantee))),
    )


@st.composite
def records(draw: st.DrawFn) -> PurifyRecord:
    measured = st.just(Agreement(10, 0.9, 0.6, 0.98, 0.02))
    return PurifyRecord(
        "auto",
        draw(st.sampled_from(list(Guarantee))),
        "given",
        100,
        tuple(draw(st.lists(layers(), max_size=4))),
        draw(st.none() | measured),
        untouched=tuple(draw(st.lists(st.sampled_from(["a", "b"]), max_size=2))),
    )


def words(verdict: Verdict) -> str:
    return " ".join((verdict.headline, *verdict.found, *verdict.done, *verdict.trust)).lower()


@given(records())
def test_verdict_says_exact_only_where_all_say_so(record: PurifyRecord) -> None:
    changed = [entry for entry in record.layers if entry.guarantee is not Guarantee.UNCHANGED]
    proven = (
        record.guarantee is Guarantee.EXACT
        and bool(changed)
        and all(e.guarantee is Guarantee.EXACT and e.kernels == e.certified > 0 for e in changed)
    )
    verdict = judge(record)
    assert ("exact" in words(verdict)) == proven
    assert (verdict.guarantee is Guarantee.EXACT) == proven
    assert ("these are the clean weights" in words(verdict)) == proven
    if "certified" in words(verdict):
        assert any(entry.certified for entry in changed)


@given(records())
def test_verdict_is_never_stronger_than_the_record(record: PurifyRecord) -> None:
    verdict = judge(record)
    changed = [entry.guarantee for entry in record.layers if entry.guarantee is not Guarantee.UNCHANGED]
    assert (Guarantee.NONE in [record.guarantee, *changed]) == (verdict.guarantee is Guarantee.NONE)
    if verdict.guarantee is Guarantee.UNCHANGED:
        assert not changed
    assert verdict.headline and verdict.found and verdict.done and verdict.trust


@given(records())
def test_key_numbers_are_always_there(record: PurifyRecord) -> None:
    facts = key_numbers(record)
    assert len(facts) == 8 and all(fact.label and fact.value and fact.detail for fact in facts)


def test_certified_record_is_called_so_with_its_assumption() -> None:
    verdict = judge(certified())
    assert verdict.headline == HEADLINES[Guarantee.EXACT]
    assert "if training started from this anchor" in words(verdict)
    assert "20,161 entries are taken for hit (10.1\u00a0% of 200,500), in 2 of 2 layers." in verdict.found


def test_estimates_are_called_estimates_and_agreement_is_not_oversold() -> None:
    verdict = judge(backdoored())
    assert verdict.headline == HEADLINES[Guarantee.APPROXIMATE]
    assert "not proven" in words(verdict) and "cannot show whether a hidden trigger still works" in words(
        verdict
    )


def test_distillation_is_told_where_it_was_taken() -> None:
    record = backdoored()
    assert not any("distilled" in sentence for sentence in judge(record).done)
    trials = (*record.trials, replace(record.trials[0], chosen=True, distilled=True))
    assert any("distilled" in sentence for sentence in judge(replace(record, trials=trials)).done)


def test_certified_kernels_among_estimates_are_counted() -> None:
    mixed = replace(
        certified(),
        guarantee=Guarantee.APPROXIMATE,
        layers=(*certified().layers, layer("bn", kernels=9, method="statistics")),
    )
    verdict = judge(mixed)
    assert verdict.headline == HEADLINES[Guarantee.APPROXIMATE]
    assert "501 of 510 kernels in the changed layers are certified." in verdict.trust


def test_losses_nan_entries_and_untouched_parameters_are_told() -> None:
    text = words(judge(troubled()))
    assert "in 1 layer nothing could be identified: “classifier”" in text
    assert "912 of them arrived as nan or infinity" in text
    assert "3 parameters are covered by no recovery" in text


def test_kept_layers_are_outside_the_certificate() -> None:
    kept = layer("kept", guarantee=Guarantee.UNCHANGED, method="none", moved=0.0)
    verdict = judge(replace(certified(), layers=(*certified().layers, kept)))
    assert verdict.guarantee is Guarantee.EXACT
    assert "if what was returned as received is clean: nothing certifies that" in verdict.trust[0]


def test_nothing_changed_is_not_called_clean() -> None:
    kept = layer("kept", guarantee=Guarantee.UNCHANGED, method="none", moved=0.0)
    verdict = judge(PurifyRecord("auto", Guarantee.UNCHANGED, "given", 100, (kept,), held(1.0)))
    assert verdict.headline == HEADLINES[Guarantee.UNCHANGED]
    assert "Being left alone is no proof of being clean." in verdict.trust


@pytest.mark.parametrize(
    ("record", "value", "detail"),
    [
        (backdoored(), "0.1", "chosen among 6 without labels"),
        (replace(troubled(), strength=0.1), "0.1", "as asked for"),
        (troubled(), "0.1", "the default: none was tried"),
        (certified(), "–", "no layer has one"),
        (
            replace(troubled(), layers=(layer(strength=0.003), layer(strength=0.3))),
            "0.003 to 0.3",
            "the default: none was tried; differs between layers",
        ),
    ],
)
def test_strength_is_told_with_where_it_comes_from(record: PurifyRecord, value: str, detail: str) -> None:
    (fact,) = (fact for fact in key_numbers(record) if fact.label.startswith("Strength"))
    assert (fact.value, fact.detail) == (value, detail)


def test_no_certificate_is_claimed_where_every_layer_came_back_unchanged() -> None:
    record = replace(certified(), guarantee=Guarantee.PARTIAL)
    unchanged = tuple(replace(entry, guarantee=Guarantee.UNCHANGED, certified=0) for entry in record.layers)
    assert "certified" not in words(judge(replace(record, layers=unchanged)))


@pytest.mark.parametrize(
    ("flagged", "evidence", "said"),
    [
        (
            (3,),
            "patch",
            "A backdoor to class 3 is suspected: a patch much smaller than other classes take leads",
        ),
        ((3, 5), "warp", "A backdoor to classes 3, 5 is suspected: one small warp leads there"),
        ((), "square", "sends each class to another is suspected: one small plain square"),
        ((1,), "", "A backdoor to class 1 is suspected: one small change"),
        ((1,), "output weights", "The output weights of class 1 stand out"),
        ((), "", "No trigger was found that makes any of 6 classes searched much easier"),
    ],
)
def test_what_the_search_for_triggers_found_is_told_first(
    flagged: tuple[int, ...], evidence: str, said: str
) -> None:
    search = TriggerSearch(tuple(range(6)), (9.0,) * 6, flagged, 9.0, evidence)
    record = PurifyRecord("auto", Guarantee.APPROXIMATE, "given", 100, (layer("fc"),), None, search=search)
    assert said in judge(record).found[0]
    assert "backdoor" not in judge(replace(record, search=None)).found[0]
