"""Laws Q that the value of a hit entry is drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Generator, Tensor

from depurate.errors import InputError


class Law(Protocol):
    """Anything that draws values; its `repr` names it in tables and tests."""

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Draw `count` independent values, shape (count,), float64, on the CPU."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """N(0, scale²).

    >>> import torch
    >>> Gaussian(2.0), Gaussian(2.0).draw(3, torch.Generator()).shape
    (Gaussian(scale=2.0), torch.Size([3]))
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self, self.scale)

    def draw(self, count: int, generator: Generator) -> Tensor:
        return self.scale * torch.randn(count, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class Uniform:
    """Uniform on −scale to scale.

    >>> import torch
    >>> bool(Uniform(0.5).draw(100, torch.Generator()).abs().max() <= 0.5)
    True
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self, self.scale)

    def draw(self, count: int, generator: Generator) -> Tensor:
        return self.scale * (2 * torch.rand(count, generator=generator, dtype=torch.float64) - 1)


@dataclass(frozen=True)
class Cauchy:
    """Cauchy of the given scale: no mean, no variance, values of any size.

    >>> import torch
    >>> bool(Cauchy().draw(10_000, torch.Generator().manual_seed(0)).abs().max() > 1_000)
    True
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        _check_scale(self, self.scale)

    def draw(self, count: int, generator: Generator) -> Tensor:
        uniform = torch.rand(count, generator=generator, dtype=torch.float64)
        return self.scale * torch.tan(math.pi * (uniform - 0.5))


@dataclass(frozen=True)
class Constant:
    """Always the same value, so that all hits push in one direction: the hardest case for a symmetric loss.

    >>> import torch
    >>> Constant(3.0).draw(2, torch.Generator()).tolist()
    [3.0, 3.0]
    """

    value: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise InputError(f"{self!r}: the value must be finite")

    def draw(self, count: int, generator: Generator) -> Tensor:
        return torch.full((count,), self.value, dtype=torch.float64)


def law_terms(law: Any) -> dict[str, object]:
    """Write a law out as the terms of a spec string.

    >>> law_terms(Gaussian(2.0))
    {'law': 'gaussian', 'scale': 2.0}
    """
    name = next((name for name, kind in _LAWS.items() if type(law) is kind), None)
    if name is None:
        raise InputError(f"{law!r}: only {', '.join(_LAWS)} can be written as a spec string")
    return {"law": name} | {field.name: getattr(law, field.name) for field in fields(law)}


def parse_law(terms: dict[str, str], spec: str) -> dict[str, Law]:
    """Take a law's terms out of those of a spec string.

    Args:
        terms: Names and values; those that belong to the law are removed.
        spec: The whole string, for messages.

    Returns:
        The law under `law`; nothing when the terms name none.

    Raises:
        InputError: The law is unknown, or a value is no number.

    >>> parse_law({"law": "constant", "value": "3"}, "")
    {'law': Constant(value=3.0)}
    """
    name = terms.pop("law", None)
    if name is None and not {"scale", "value"} & terms.keys():
        return {}
    kind = _LAWS.get(name or "gaussian")
    if kind is None:
        raise InputError(f"noise: {spec!r}: unknown law {name}; known are {', '.join(_LAWS)}")
    given = {field.name: terms.pop(field.name) for field in fields(kind) if field.name in terms}
    try:
        settings = {key: float(value) for key, value in given.items()}
    except ValueError as error:
        raise InputError(f"noise: {spec!r}: a law's settings must be numbers, got {given}") from error
    return {"law": kind(**settings)}


_LAWS: dict[str, Any] = {"gaussian": Gaussian, "uniform": Uniform, "cauchy": Cauchy, "constant": Constant}


def _check_scale(law: Law, scale: float) -> None:
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"{law!r}: the scale must be positive and finite")
