"""Defences by name, with hyper-parameters where one departs from those published: `anp:iterations=200`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from depurate.bench.defences.given import Defence
from depurate.bench.defences.ours import Depurate, DepurateAnchored
from depurate.bench.defences.rivals import RIVALS
from depurate.bench.defences.rivals.training import Schedule
from depurate.errors import InputError

OURS: dict[str, type[Defence]] = {"depurate": Depurate, "depurate-anchor": DepurateAnchored}
DEFENCES: dict[str, type[Defence]] = RIVALS | OURS


def split_specs(text: str) -> tuple[str, ...]:
    """Split a list of specs at its commas; settings, which hold an equals sign, stay with the name before them.

    >>> split_specs("ft,anp:iterations=200,batch=64,clp")
    ('ft', 'anp:iterations=200,batch=64', 'clp')
    """
    specs: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        if specs and "=" in part and ":" not in part.partition("=")[0]:
            specs[-1] += f",{part}"
        else:
            specs.append(part)
    return tuple(specs)


def parse_defence(spec: str) -> Defence:
    """Build a defence from its spec.

    Args:
        spec: NAME or NAME:KEY=VALUE,KEY=VALUE; keys are the defence's fields or those of its training schedule.

    Returns:
        The defence; what is not named stays as published.

    Raises:
        InputError: No such defence, no such setting, or a value that does not fit.

    >>> parse_defence("clp:spread=5")
    ChannelLipschitzPruning(spread=5.0)
    """
    name, _, text = spec.partition(":")
    if name not in DEFENCES:
        raise InputError(f"{spec}: no such defence; there are {', '.join(DEFENCES)}")
    # Any: dataclasses.replace wants a dataclass, which the protocol cannot say.
    defence: Any = DEFENCES[name]()
    for term in filter(None, text.split(",")):
        key, _, value = term.partition("=")
        defence = _set(defence, key, value, spec)
    built: Defence = defence
    return built


def _set(defence: Any, key: str, text: str, spec: str) -> Any:
    known = {field.name for field in fields(defence)}
    training = getattr(defence, "schedule", None)
    if key in known and isinstance(getattr(defence, key), bool | int | float | str):
        return replace(defence, **{key: _value(text, getattr(defence, key), spec)})
    if isinstance(training, Schedule) and key in {"epochs", "rate", "batch", "momentum", "decay"}:
        changed: dict[str, Any] = {key: _value(text, getattr(training, key), spec)}
        return replace(defence, schedule=replace(training, **changed))
    raise InputError(f"{spec}: no setting {key!r}; {spec.partition(':')[0]} has {', '.join(sorted(known))}")


def _value(text: str, like: bool | int | float | str, spec: str) -> bool | int | float | str:
    try:
        if isinstance(like, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(like)(text)
    except (ValueError, KeyError) as error:
        raise InputError(f"{spec}: {text!r} is not a {type(like).__name__}") from error
