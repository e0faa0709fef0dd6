"""I-BAU: unlearn the worst universal perturbation, through the implicit hypergradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.training import batches, working_copy


@dataclass(frozen=True)
class ImplicitUnlearning:
    """min_θ max_{‖δ‖≤C} mean L(f_θ(x + δ), y), its gradient through the maximiser δ(θ) by a fixed point.

    With Φ(δ, θ) = δ − s ∇_δ(inner loss), dψ/dθ = ∂L/∂θ + (∂Φ/∂θ)ᵀ Σ_{k<K} ((∂Φ/∂δ)ᵀ)^k ∂L/∂δ.

    Attributes:
        rounds: Rounds of finding δ and unlearning it.
        terms: K.
        rate: Adam's learning rate.
        batch: Images in a step.
        radius: C in pixels of [0, 1] (l2 over the image).
        steps: Ascents towards δ in a round; one pass over the authors' 5,000 images makes 50.
        ascent: Learning rate of δ, in pixels.
        inner_step: s, in pixels.
        shrink: Weight of ‖δ‖² in the inner loss.
        share: Share of a batch that carries δ while unlearning.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "Zeng et al., ICLR 2022, arXiv 2110.03735"
    rounds: int = 3
    terms: int = 5
    rate: float = 1e-3
    batch: int = 100
    radius: float = 10.0
    steps: int = 50
    ascent: float = 10.0
    inner_step: float = 0.1
    shrink: float = 0.001
    share: float = 0.01

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        net = working_copy(model)
        optimiser = torch.optim.Adam(net.parameters(), lr=self.rate)
        generator = torch.Generator().manual_seed(seed)
        parts = list(batches(len(given.images), self.batch, generator))
        for _ in range(self.rounds):
            delta = self.perturbation(net, given, parts)
            for part in parts:
                marked = torch.randperm(len(part), generator=generator)[
                    : max(1, round(self.share * len(part)))
                ]
                gradients = self._hypergradient(net, given, parts[0], part, marked, delta)
                for parameter, gradient in zip(net.parameters(), gradients, strict=True):
                    parameter.grad = gradient
                optimiser.step()
        return net

    def perturbation(self, net: nn.Module, given: Given, parts: Sequence[Tensor]) -> Tensor:
        """Ascend from zero, batch after batch, against the network's own answers; then into the ball.

        Returns:
            δ in pixels of [0, 1], shape (1, c, h, w).
        """
        delta = torch.zeros_like(given.images[:1])
        for part in islice(cycle(parts), self.steps):
            images = given.images[part]
            with torch.no_grad():
                answers = net(images).argmax(1)
            delta.requires_grad_(True)
            (slope,) = torch.autograd.grad(self._inner(net, images, answers, delta, given.unit), delta)
            delta = (delta - self.ascent * slope).detach()
        norm = float(delta.norm())
        return delta * min(1.0, self.radius / norm) if norm else delta

    def _inner(self, net: nn.Module, images: Tensor, labels: Tensor, delta: Tensor, unit: float) -> Tensor:
        missed = cross_entropy(net(images + unit * delta), labels)
        return -missed + self.shrink * delta.square().sum()

    def _hypergradient(
        self, net: nn.Module, given: Given, first: Tensor, part: Tensor, marked: Tensor, delta: Tensor
    ) -> list[Tensor]:
        weights = list(net.parameters())
        at = delta.detach().requires_grad_(True)
        images = given.images[part]
        carried = images.new_zeros(len(part), 1, 1, 1)
        carried[marked] = given.unit
        outer = cross_entropy(net(images + carried * at), given.labels[part])
        slope, *direct = torch.autograd.grad(outer, [at, *weights])
        inner = self._inner(net, given.images[first], given.labels[first], at, given.unit)
        (ascent,) = torch.autograd.grad(inner, at, create_graph=True)
        moved = at - self.inner_step * ascent
        summed = slope
        for _ in range(self.terms - 1):
            (pulled,) = torch.autograd.grad(moved, at, summed, retain_graph=True)
            summed = pulled + slope
        through = torch.autograd.grad(moved, weights, summed, allow_unused=True)
        return [one if other is None else one + other for one, other in zip(direct, through, strict=True)]
