"""Adversarial neuron pruning (ANP): prune the neurons whose perturbation most easily wrecks the network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import cross_entropy

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.neurons import Neurons, neurons_of, prune_by_accuracy
from depurate.bench.defences.rivals.training import epoch, working_copy


@dataclass(frozen=True)
class AdversarialNeuronPruning:
    """min_{0≤m≤1} α L(m ∘ w, b) + (1 − α) max_{|δ|,|ξ|≤ε} L((m + δ) ∘ w, (1 + ξ) ∘ b), small m pruned.

    The threshold on m is the largest that costs at most `tolerated` on a fifth of the labelled images, held back.
    (The authors' published figures choose it by the attack's success on test images, which is not done here.)

    Attributes:
        iterations: Steps on the masks.
        batch: Images in a step.
        rate: Learning rate of the masks, momentum 0.9.
        budget: ε.
        balance: α.
        tolerated: Loss of accuracy by pruning, of 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "Wu & Wang, NeurIPS 2021, arXiv 2110.14430"
    iterations: int = 2000
    batch: int = 128
    rate: float = 0.2
    budget: float = 0.4
    balance: float = 0.2
    tolerated: float = 0.05

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        kept, held_back = given.split(0.2)
        masks = self.masks(model, kept, seed)
        return prune_by_accuracy(
            neurons_of(working_copy(model), given.images.shape), masks, held_back, self.tolerated
        )

    def masks(self, model: nn.Module, given: Given, seed: int) -> dict[str, Tensor]:
        """Learn the mask of every neuron.

        Args:
            model: The suspect.
            given: Labelled images.
            seed: Of the order of the images and the start of the perturbations.

        Returns:
            Masks from 0 to 1 by module name.
        """
        net = working_copy(model).train().requires_grad_(False)
        neurons = neurons_of(net, given.images.shape)
        masks = {name: mask.requires_grad_(True) for name, mask in neurons.constant(1.0).items()}
        optimiser = torch.optim.SGD(list(masks.values()), lr=self.rate, momentum=0.9)
        generator = torch.Generator().manual_seed(seed)
        for images, labels in self._steps(given, generator):
            fixed = {name: mask.detach() for name, mask in masks.items()}
            delta, xi = self.perturbation(neurons, fixed, images, labels, generator)
            optimiser.zero_grad()
            ones = neurons.constant(1.0)
            natural = cross_entropy(neurons.scaled_answers(images, masks, ones), labels)
            weights = {name: masks[name] + delta[name] for name in masks}
            attacked = neurons.scaled_answers(images, weights, {name: 1 + xi[name] for name in masks})
            loss = self.balance * natural + (1 - self.balance) * cross_entropy(attacked, labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            with torch.no_grad():
                for mask in masks.values():
                    mask.clamp_(0, 1)
        return {name: mask.detach() for name, mask in masks.items()}

    def perturbation(
        self, neurons: Neurons, masks: dict[str, Tensor], images: Tensor, labels: Tensor, generator: Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take one signed gradient step of length ε from a random start in the box, projected back into it.

        Returns:
            δ and ξ of every neuron, each from −ε to ε.
        """
        start = [
            (
                self.budget * (2 * torch.rand(mask.shape, generator=generator).to(mask.device) - 1)
            ).requires_grad_(True)
            for mask in (*masks.values(), *masks.values())
        ]
        delta = dict(zip(masks, start[: len(masks)], strict=True))
        xi = dict(zip(masks, start[len(masks) :], strict=True))
        weights = {name: masks[name] + delta[name] for name in masks}
        answers = neurons.scaled_answers(images, weights, {name: 1 + xi[name] for name in masks})
        gradients = torch.autograd.grad(cross_entropy(answers, labels), start, allow_unused=True)
        moved = [
            (at + self.budget * slope.sign()).clamp(-self.budget, self.budget).detach()
            if slope is not None
            else at.detach()
            for at, slope in zip(start, gradients, strict=True)
        ]
        return dict(zip(masks, moved[: len(masks)], strict=True)), dict(
            zip(masks, moved[len(masks) :], strict=True)
        )

    def _steps(self, given: Given, generator: Generator) -> islice[tuple[Tensor, Tensor]]:
        endless = (
            batch
            for _ in range(self.iterations)
            for batch in epoch(given, min(self.batch, len(given.images)), generator, augmented=True)
        )
        return islice(endless, self.iterations)
