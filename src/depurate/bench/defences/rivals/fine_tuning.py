"""Plain fine-tuning (FT): train on with clean labelled images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.training import Schedule, training_steps, working_copy

_PUBLISHED = Schedule(epochs=100, rate=0.01, batch=256)


@dataclass(frozen=True)
class FineTuning:
    """min_θ Σ L(f_θ(x), y) over the clean labelled images, from the suspect's weights.

    Attributes:
        schedule: SGD, rate 0.01 along a cosine, 100 epochs of batches of 256, as in BackdoorBench.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "BackdoorBench, NeurIPS 2022 (settings)"
    schedule: Schedule = _PUBLISHED

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        net = working_copy(model).train()
        optimiser, rate = self.schedule.optimiser(list(net.parameters()))
        generator = torch.Generator().manual_seed(seed)
        for images, labels in training_steps(given, self.schedule, rate, generator):
            optimiser.zero_grad()
            cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return net.eval()
