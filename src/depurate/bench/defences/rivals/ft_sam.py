"""FT-SAM: fine-tuning that seeks weights whose large neighbours are flat, which shrinks large weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.structure import BATCH_NORM
from depurate.bench.defences.rivals.training import Schedule, training_steps, working_copy

_PUBLISHED = Schedule(epochs=100, rate=0.01, batch=256)


@dataclass(frozen=True)
class SharpnessAwareFineTuning:
    """min_w max_{‖T⁻¹ e‖₂≤ρ} L(w + e) with T = diag|w|, solved to first order: e = ρ T² g / ‖T g‖₂.

    Attributes:
        radius: ρ; 2 in the paper.
        smoothing: Of the labels, 0.1 as in the authors' settings.
        schedule: As fine-tuning.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "Zhu et al., ICCV 2023, arXiv 2304.11823"
    radius: float = 2.0
    smoothing: float = 0.1
    schedule: Schedule = _PUBLISHED

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        net = working_copy(model).train()
        weights = list(net.parameters())
        optimiser, rate = self.schedule.optimiser(list(weights))
        generator = torch.Generator().manual_seed(seed)
        for images, labels in training_steps(given, self.schedule, rate, generator):
            loss = cross_entropy(net(images), labels, label_smoothing=self.smoothing)
            steps = worst_step(weights, torch.autograd.grad(loss, weights), self.radius)
            _move(weights, steps, 1.0)
            optimiser.zero_grad()
            with _statistics_held(net):
                loss = cross_entropy(net(images), labels, label_smoothing=self.smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
            _move(weights, steps, -1.0)
            optimiser.step()
        return net.eval()


def worst_step(weights: list[nn.Parameter], gradients: tuple[Tensor, ...], radius: float) -> list[Tensor]:
    """Steepest ascent within ‖e / |w|‖₂ ≤ ρ: e = ρ |w|² ∘ g / ‖|w| ∘ g‖₂, over all weights together."""
    pairs = [(weight.detach().abs(), slope) for weight, slope in zip(weights, gradients, strict=True)]
    norm = torch.stack([(size * slope).norm() for size, slope in pairs]).norm()
    return [radius * size.square() * slope / (norm + 1e-12) for size, slope in pairs]


def _move(weights: list[nn.Parameter], steps: list[Tensor], sign: float) -> None:
    with torch.no_grad():
        for weight, step in zip(weights, steps, strict=True):
            weight.add_(step, alpha=sign)


@contextmanager
def _statistics_held(net: nn.Module) -> Iterator[None]:
    """Batches normalise by their own statistics, but the running ones stay as they are."""
    norms = [module for module in net.modules() if isinstance(module, BATCH_NORM)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
