"""Attacks as text, such as `badnets:rows=24-27,columns=24-27,value=1,target=0`, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, get_type_hints

from torch import Tensor

from depurate.contamination.attacks.all_to_all import AllToAll
from depurate.contamination.attacks.badnets import BadNets
from depurate.contamination.attacks.bit_flips import TargetedBitFlips
from depurate.contamination.attacks.blended import Blended
from depurate.contamination.attacks.hidden_update import HiddenUpdate
from depurate.contamination.attacks.input_aware import InputAware
from depurate.contamination.attacks.label_consistent import LabelConsistent
from depurate.contamination.attacks.low_frequency import LowFrequency
from depurate.contamination.attacks.natural import NaturalPatch
from depurate.contamination.attacks.protocol import Attack, HasTensors
from depurate.contamination.attacks.sig import Sig
from depurate.contamination.attacks.subnet import SubnetReplacement
from depurate.contamination.attacks.trojan import Trojan
from depurate.contamination.attacks.wanet import WaNet
from depurate.errors import InputError

ATTACKS: Mapping[str, type[Any]] = {
    "badnets": BadNets,
    "blended": Blended,
    "sig": Sig,
    "wanet": WaNet,
    "all-to-all": AllToAll,
    "label-consistent": LabelConsistent,
    "trojan": Trojan,
    "input-aware": InputAware,
    "natural": NaturalPatch,
    "low-frequency": LowFrequency,
    "hidden-update": HiddenUpdate,
    "subnet": SubnetReplacement,
    "bit-flips": TargetedBitFlips,
}
"""Every attack by the name that its spec string starts with."""

_TENSORS = "learnt"
# Found in training, so not part of the text.
_NOT_TEXT = (_TENSORS, "scores")


def parse_attack(spec: str) -> Attack:
    """Read an attack from text; settings that are left out keep their defaults.

    Args:
        spec: `NAME` or `NAME:setting=value,setting=value`; ranges are written `first-end`, the end excluded.

    Returns:
        The attack. Triggers that training finds are not part of the text (`with_tensors` adds them).

    Raises:
        InputError: There is no such attack or setting, or a value is not of its kind.

    >>> parse_attack("badnets:rows=1-3,target=7")
    BadNets(rows=(1, 3), columns=(24, 27), value=1.0, target=7)
    """
    name, _, settings = spec.partition(":")
    kind = ATTACKS.get(name)
    if kind is None:
        raise InputError(f"attack {spec!r}: no attack is called {name!r}; there are {', '.join(ATTACKS)}")
    hints = get_type_hints(kind)
    known = {field.name: hints[field.name] for field in fields(kind) if field.name not in _NOT_TEXT}
    given: dict[str, Any] = {}
    for setting in settings.split(",") if settings else ():
        key, equals, value = setting.partition("=")
        if not equals or key not in known:
            raise InputError(f"attack {spec!r}: {setting!r}; settings of {name} are {', '.join(known)}")
        if key in given:
            raise InputError(f"attack {spec!r}: {key} is given twice")
        given[key] = _read(value, known[key], f"attack {spec!r}: {key}")
    attack: Attack = kind(**given)
    return attack


def attack_spec(attack: Attack) -> str:
    """Write an attack as text that `parse_attack` reads back.

    Args:
        attack: One of `ATTACKS`.

    Returns:
        Its name and all its settings.

    Raises:
        InputError: The attack is not one of `ATTACKS`.

    >>> attack_spec(BadNets(target=3))
    'badnets:rows=24-27,columns=24-27,value=1,target=3'
    """
    name = next((name for name, kind in ATTACKS.items() if type(attack) is kind), None)
    if name is None:
        raise InputError(f"{attack!r}: not one of the attacks {', '.join(ATTACKS)}")
    settings = [field.name for field in fields(ATTACKS[name]) if field.name not in _NOT_TEXT]
    return f"{name}:{','.join(f'{key}={_write(getattr(attack, key))}' for key in settings)}"


def attack_tensors(attack: Attack) -> dict[str, Tensor]:
    """Give the tensors of a trigger that text cannot hold; empty for most attacks."""
    return dict(attack.learnt or {}) if isinstance(attack, HasTensors) else {}


def with_tensors(attack: Attack, tensors: Mapping[str, Tensor]) -> Attack:
    """Put the tensors that `attack_tensors` gave back into an attack read from text.

    Raises:
        InputError: The attack has no such tensors.
    """
    if not isinstance(attack, HasTensors):
        raise InputError(f"{attack!r}: its trigger has no tensors")
    changed: Attack = replace(attack, **{_TENSORS: dict(tensors)})  # type: ignore[type-var]
    return changed


def _read(text: str, kind: Any, where: str) -> Any:
    try:
        if kind == tuple[int, int]:
            first, end = text.split("-")
            return int(first), int(end)
        value = kind(text)
    except ValueError:
        wanted = "FIRST-END" if kind == tuple[int, int] else f"a value of type {kind.__name__}"
        raise InputError(f"{where}={text}; expected {wanted}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}={text}; expected a finite number")
    return value


def _write(value: Any) -> str:
    if isinstance(value, tuple):
        return "-".join(map(str, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
