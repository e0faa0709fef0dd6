"""Reset of outlying weights: entries far from their layer's median go back to the median, or to the anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.weights import deviation, repair_weights
from depurate.errors import InputError


@dataclass(frozen=True)
class RobustReset:
    """w_i goes to the median where |w_i − median| > t · 1.4826 · median|w − median|, layer by layer, or is not finite.

    Attributes:
        limit: t. Fixed beforehand: a Gaussian layer of a million weights has none beyond 5.
        to_anchor: Judge and reset against the anchor instead of the median; it is needed then.
    """

    source: ClassVar[str] = "the rule of thumb: medians and a threshold"
    limit: float = 6.0
    to_anchor: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """The anchor where it is what is reset to."""
        return frozenset({"anchor"} if self.to_anchor else ())

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        known = given.anchor if self.to_anchor else None
        if self.to_anchor and known is None:
            raise InputError("reset:to_anchor=true: needs an anchor, and this model has none")

        def repair(name: str, weights: Tensor) -> Tensor:
            if known is None:
                good = weights[weights.isfinite()].median().expand_as(weights)
            else:
                good = known[name].flatten(1).double()
            far = (weights - good).abs() > self.limit * deviation(weights - good)
            return torch.where(far | ~weights.isfinite(), good, weights)

        return repair_weights(model, repair)
