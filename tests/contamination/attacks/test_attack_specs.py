"""Spec strings: every attack round-trips, and what is wrong is named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depurate import InputError
from depurate.contamination.attacks import ATTACKS, BadNets, Blended, attack_spec, parse_attack, with_tensors


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_round_trips(name):
    attack = parse_attack(name)
    spec = attack_spec(attack)
    assert spec.startswith(f"{name}:") or spec == name
    assert parse_attack(spec) == attack and attack_spec(parse_attack(spec)) == spec


@given(
    first=st.integers(0, 99),
    end=st.integers(0, 99),
    value=st.floats(allow_nan=False, allow_infinity=False),
    target=st.integers(0, 9),
)
def test_numbers_round_trip_exactly(first, end, value, target):
    attack = BadNets(rows=(first, end), value=value, target=target)
    assert parse_attack(attack_spec(attack)) == attack


def test_the_form_of_the_documentation():
    assert attack_spec(BadNets()) == "badnets:rows=24-27,columns=24-27,value=1,target=0"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("smile", "no attack is called 'smile'"),
        ("badnets:colour=red", "settings of badnets are rows, columns, value, target"),
        ("badnets:rows", "settings of badnets"),
        ("badnets:rows=3", "rows=3; expected FIRST-END"),
        ("badnets:value=big", "value=big; expected a value of type float"),
        ("badnets:value=1,value=2", "value is given twice"),
        ("badnets:value=nan", "expected a finite number"),
        ("blended:alpha=2", "alpha must lie within 0 and 1"),
    ],
)
def test_faults_are_named(spec, told):
    with pytest.raises(InputError, match=told):
        parse_attack(spec)


def test_strangers_have_no_spec_and_plain_triggers_no_tensors():
    with pytest.raises(InputError, match="not one of the attacks"):
        attack_spec(object())
    with pytest.raises(InputError, match="has no tensors"):
        with_tensors(Blended(), {"a": torch.zeros(1)})
