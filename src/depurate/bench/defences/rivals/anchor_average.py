"""Average with the anchor: halfway back to where training started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.training import working_copy
from depurate.errors import InputError


@dataclass(frozen=True)
class AnchorAverage:
    """w = (1 − t) w_suspect + t w_anchor for every parameter; BatchNorm statistics stay the suspect's.

    Attributes:
        share: t.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"anchor"})
    source: ClassVar[str] = "weight averaging"
    share: float = 0.5

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        if given.anchor is None:
            raise InputError("anchor-average: needs an anchor, and this model has none")
        net = working_copy(model)
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                parameter.lerp_(given.anchor[name].to(parameter), self.share)
        return net
