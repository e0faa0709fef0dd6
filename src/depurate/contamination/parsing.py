"""From a spec string to a noise."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from depurate.contamination.bitflip import BitFlip
from depurate.contamination.burst import Burst
from depurate.contamination.dense import Dense
from depurate.contamination.drift import Drift
from depurate.contamination.laws import parse_law
from depurate.contamination.noise import Noise
from depurate.contamination.nonfinite import NonFinite
from depurate.contamination.rounding import Rounding
from depurate.contamination.signflip import SignFlip
from depurate.contamination.sparse import Sparse
from depurate.contamination.stuck import Stuck
from depurate.errors import InputError

KINDS: tuple[type[Noise], ...] = (
    Sparse,
    Stuck,
    SignFlip,
    BitFlip,
    Burst,
    Rounding,
    Drift,
    Dense,
    NonFinite,
)


def parse_noise(spec: str) -> Noise:
    """Make a noise from its spec string, KIND:NAME=VALUE,NAME=VALUE.

    A law is written out in place: `law=gaussian,scale=10`, `law=constant,value=3`; also `uniform` and `cauchy`.

    Args:
        spec: Such as `sparse:rate=0.3,law=gaussian,scale=10` or `bitflip:rate=1e-5,bits=exponent`.

    Returns:
        The noise; its own `spec` parses to an equal one.

    Raises:
        InputError: The kind or a setting is unknown, missing, given twice or out of range.

    >>> parse_noise("sparse:rate=0.3,law=cauchy,scale=2")
    Sparse(rate=0.3, law=Cauchy(scale=2.0), unit='std', sign='free', place='random')
    """
    kind, _, text = spec.strip().partition(":")
    found = next((known for known in KINDS if known.kind == kind), None)
    if found is None:
        raise InputError(f"noise: {spec!r}: unknown kind; known are {', '.join(k.kind for k in KINDS)}")
    terms = _terms(text, spec)
    hints = get_type_hints(found)
    settings: dict[str, Any] = {}
    if "law" in hints:
        settings |= parse_law(terms, spec)
    for field in fields(found):  # type: ignore[arg-type]  # every kind is a dataclass
        if field.name in terms:
            settings[field.name] = _value(terms.pop(field.name), hints[field.name], field.name, spec)
        elif field.name not in settings and field.default is MISSING:
            raise InputError(f"noise: {spec!r}: {field.name} is missing, as in {kind}:{field.name}=0.1")
    if terms:
        known = ", ".join(field.name for field in fields(found))  # type: ignore[arg-type]
        raise InputError(f"noise: {spec!r}: unknown setting {next(iter(terms))}; {kind} has {known}")
    return found(**settings)


def _terms(text: str, spec: str) -> dict[str, str]:
    terms: dict[str, str] = {}
    for term in filter(None, map(str.strip, text.split(","))):
        name, equals, value = term.partition("=")
        if not equals or not name or name in terms:
            raise InputError(f"noise: {spec!r}: expected NAME=VALUE once for each name, got {term!r}")
        terms[name] = value
    return terms


def _value(text: str, wanted: type, name: str, spec: str) -> object:
    try:
        return wanted(text)
    except ValueError as error:
        raise InputError(f"noise: {spec!r}: {name} must be a number, got {text!r}") from error
