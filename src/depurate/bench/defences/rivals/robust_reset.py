"""Reset of outlying weights: entries far from their layer's median go back to the median, or to the anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.weights import deviation, repair_weights


@dataclass(frozen=True)
class RobustReset:
    """w_i goes to the median where |w_i − median| > t · 1.4826 · median|w − median|, layer by layer, or is not finite.

    Attributes:
        limit: t. Fixed beforehand: a Gaussian layer of a million weights has none beyond 5.
        to_anchor: Judge and reset against the anchor instead of the median.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    source: ClassVar[str] = "the rule of thumb: medians and a threshold"
    limit: float = 6.0
    to_anchor: bool = False

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        def repair(name: str, weights: Tensor) -> Tensor:
            known = given.anchor if self.to_anchor else None
            middle = weights[weights.isfinite()].median()
            good = known[name].flatten(1).double() if known and name in known else middle.expand_as(weights)
            far = (weights - good).abs() > self.limit * deviation(weights - good)
            return torch.where(far | ~weights.isfinite(), good, weights)

        return repair_weights(model, repair)
