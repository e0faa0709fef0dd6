"""depurate as a contender: `purify` with method auto and unlabelled images, without or with the anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from depurate.bench.defences.given import Given
from depurate.errors import InputError
from depurate.purification import purify


@dataclass(frozen=True)
class Depurate:
    """`purify(model, unlabelled, method=method, strength=strength)`, everything else as it comes.

    Attributes:
        method: `auto`, `soft` or `exact`.
        strength: λ; 0 lets purify choose it without labels.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    source: ClassVar[str] = "this package"
    method: str = "auto"
    strength: float = 0.0

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        return purify(model, given.unlabelled, None, self.method, self.strength or None, seed=seed).model


@dataclass(frozen=True)
class DepurateAnchored(Depurate):
    """The same, told what training started from."""

    needs: ClassVar[frozenset[str]] = frozenset({"images", "anchor"})

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        if given.anchor is None:
            raise InputError("depurate-anchor: needs an anchor, and this model has none")
        anchor, strength = given.anchor, self.strength or None
        return purify(model, given.unlabelled, anchor, self.method, strength, seed=seed).model
