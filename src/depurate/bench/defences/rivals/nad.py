"""Neural attention distillation (NAD): a fine-tuned teacher guides where the student looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss, normalize

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.fine_tuning import FineTuning
from depurate.bench.defences.rivals.structure import stage_ends
from depurate.bench.defences.rivals.training import Schedule, training_steps, working_copy

_PUBLISHED = Schedule(epochs=10, rate=0.1, batch=64, decay=1e-4, drops=(2, 4, 6, 8))


@dataclass(frozen=True)
class NeuralAttentionDistillation:
    """L(f(x), y) + Σ_l β_l ‖A(F_l)/‖A(F_l)‖ − A(T_l)/‖A(T_l)‖‖², with attention A(F) = Σ_channels |F_c|^p.

    The teacher is the suspect after fine-tuning on the same images. Attention is compared where each of the last
    three stages (spatial sizes) of the network ends.

    Attributes:
        schedule: Of the student and of the teacher: 10 epochs, rate 0.1 falling tenfold after every two.
        weights: β of the last three stages, in forward order.
        power: p.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "Li et al., ICLR 2021, arXiv 2101.05930"
    schedule: Schedule = _PUBLISHED
    weights: tuple[float, ...] = (500.0, 1000.0, 1000.0)
    power: float = 2.0

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        teacher = FineTuning(self.schedule).defend(model, given, seed)
        return self.distil(model, teacher, given, seed + 1)

    def distil(self, model: nn.Module, teacher: nn.Module, given: Given, seed: int) -> nn.Module:
        """Train a copy of a network on the labels and on where the teacher looks."""
        student = working_copy(model).train()
        ends = stage_ends(student, given.images.shape)[-len(self.weights) :]
        weights = self.weights[-len(ends) :]
        optimiser, rate = self.schedule.optimiser(list(student.parameters()))
        generator = torch.Generator().manual_seed(seed)
        with _outputs(teacher, ends) as looked_for, _outputs(student, ends) as looked_at:
            for images, labels in training_steps(given, self.schedule, rate, generator):
                optimiser.zero_grad()
                with torch.no_grad():
                    teacher(images)
                loss = cross_entropy(student(images), labels)
                for end, weight in zip(ends, weights, strict=True):
                    wanted = attention(looked_for[end], self.power)
                    loss = loss + weight * mse_loss(attention(looked_at[end], self.power), wanted)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return student.eval()


def attention(features: Tensor, power: float) -> Tensor:
    """Where a layer looks: Σ_c |F_c|^p at every position, as a unit vector for each image."""
    return normalize(features.abs().pow(power).sum(1).flatten(1), dim=1)


@contextmanager
def _outputs(net: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Keep the latest output of each named module."""
    kept: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            kept[name] = output

        return hook

    handles = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()
