"""Reconstructive neuron pruning (RNP): unlearn the clean task, see which neurons bring it back, prune the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.neurons import neurons_of, prune_by_accuracy
from depurate.bench.defences.rivals.training import Schedule, epoch, working_copy

_PUBLISHED = Schedule(epochs=20, rate=0.01, batch=128, drops=(10, 20))


@dataclass(frozen=True)
class ReconstructiveNeuronPruning:
    """max_θ L on clean images until the network forgets them, then min_{0≤m≤1} α L(m ∘ θ_forgot), small m pruned.

    Neurons whose mask falls while clean accuracy is rebuilt are the ones the clean task does not need. The threshold is
    the largest that costs at most `tolerated` on a fifth of the labelled images, held back.

    Attributes:
        forgetting: Gradient ascent, stopped early at `forgotten`.
        forgotten: Training accuracy at which the task counts as unlearnt.
        epochs: Of learning the masks.
        rate: Learning rate of the masks, momentum 0.9.
        scale: α.
        tolerated: Loss of accuracy by pruning, of 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "Li et al., ICML 2023, arXiv 2305.14876"
    forgetting: Schedule = _PUBLISHED
    forgotten: float = 0.2
    epochs: int = 20
    rate: float = 0.2
    scale: float = 0.2
    tolerated: float = 0.05

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        kept, held_back = given.split(0.2)
        generator = torch.Generator().manual_seed(seed)
        masks = self._recover(self.unlearn(model, kept, generator), kept, generator)
        return prune_by_accuracy(
            neurons_of(working_copy(model), given.images.shape), masks, held_back, self.tolerated
        )

    def unlearn(self, model: nn.Module, given: Given, generator: Generator) -> nn.Module:
        """Climb the loss on clean images until training accuracy is at most `forgotten`; returns a copy."""
        net = working_copy(model).train()
        optimiser, rate = self.forgetting.optimiser(list(net.parameters()))
        for _ in range(self.forgetting.epochs):
            right = 0
            for images, labels in epoch(given, self.forgetting.batch, generator, augmented=True):
                optimiser.zero_grad()
                answers = net(images)
                (-cross_entropy(answers, labels)).backward()  # type: ignore[no-untyped-call]
                clip_grad_norm_(net.parameters(), 20.0)
                optimiser.step()
                right += int((answers.argmax(1) == labels).sum())
            rate.step()
            if right <= self.forgotten * len(given.images):
                break
        return net

    def _recover(self, forgot: nn.Module, given: Given, generator: Generator) -> dict[str, Tensor]:
        forgot.train().requires_grad_(False)
        neurons = neurons_of(forgot, given.images.shape)
        masks = {name: mask.requires_grad_(True) for name, mask in neurons.constant(1.0).items()}
        ones = neurons.constant(1.0)
        optimiser = torch.optim.SGD(list(masks.values()), lr=self.rate, momentum=0.9)
        for _ in range(self.epochs):
            for images, labels in epoch(given, self.forgetting.batch, generator, augmented=True):
                optimiser.zero_grad()
                loss = self.scale * cross_entropy(neurons.scaled_answers(images, masks, ones), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                with torch.no_grad():
                    for mask in masks.values():
                        mask.clamp_(0, 1)
        return {name: mask.detach() for name, mask in masks.items()}
