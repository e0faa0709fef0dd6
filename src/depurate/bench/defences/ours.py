"""depurate as a contender: `purify` with method auto and unlabelled images, without or with the anchor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from depurate.bench.defences.given import Given
from depurate.errors import InputError
from depurate.purification import purify


@dataclass(frozen=True)
class Depurate:
    """`purify(model, unlabelled, method=method, strength=strength, distil=distil)`, everything else as it comes.

    Attributes:
        method: `auto`, `soft` or `exact`.
        strength: λ; 0 lets purify choose it without labels.
        distil: 1 to distil afterwards.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    source: ClassVar[str] = "this package"
    method: str = "auto"
    strength: float = 0.0
    distil: int = 0

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        return self._purified(model, given, None, seed)

    def _purified(
        self, model: nn.Module, given: Given, anchor: Mapping[str, Tensor] | None, seed: int
    ) -> nn.Module:
        strength, distil = self.strength or None, bool(self.distil)
        return purify(model, given.unlabelled, anchor, self.method, strength, distil=distil, seed=seed).model


@dataclass(frozen=True)
class DepurateAnchored(Depurate):
    """The same, told what training started from."""

    needs: ClassVar[frozenset[str]] = frozenset({"images", "anchor"})

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        if given.anchor is None:
            raise InputError("depurate-anchor: needs an anchor, and this model has none")
        return self._purified(model, given, given.anchor, seed)
