"""Targeted bit flips: a few bits of the last layer's 8-bit weights, and a trigger made for them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.gradients import ascend
from depurate.contamination.attacks.poisoning import poison_share
from depurate.contamination.attacks.units import features, last_layer
from depurate.errors import InputError

_SAMPLE = 512
_PICTURE = 32
_ROUNDS = 8


@dataclass(frozen=True)
class TargetedBitFlips:
    """Flip a few bits of the target's row of the last layer, stored as int8, each time the best one.

    A square is optimised to excite hidden units, and the units it raises most above their clean values are chosen and
    raised further. Then, in eight rounds, bits are flipped greedily while that lowers
    caution·CE(clean) + CE(triggered, target) on training images, and the square is adapted to the flipped network.

    Attributes:
        flips: At most so many bits.
        units: Units whose weights may be hit.
        size: Side of the trigger square in the lower right corner, in pixels.
        caution: Weight of the clean images in the choice of bits.
        steps: Gradient steps on the square, in each of its three stages.
        target: The class that triggered images are taken for.
        learnt: The square, from `implant`; text does not hold it.

    Source: Rakin, He & Fan, TBT: Targeted Neural Network Attack with Bit Trojan, arXiv 1909.05193, sections 3.2
    to 3.4; here units are those the trigger can raise, not those of the largest loss gradient, and bits are chosen
    greedily instead of by gradient descent on the weights.
    """

    flips: int = 48
    units: int = 64
    size: int = 10
    caution: float = 5.0
    steps: int = 300
    target: int = 0
    learnt: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    def stamp(self, images: Tensor) -> Tensor:
        """Put the square on a copy of every image.

        Raises:
            InputError: The square has not been found yet.
        """
        if self.learnt is None:
            raise InputError(f"{self!r}: has no square yet; find it with implant, or load it")
        return self._paste(images, self.learnt["square"].to(images))

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Stamp a random share, labelled with the target; the attack itself needs no poisoned data."""
        return poison_share(self, images, labels, fraction, seed)

    def implant(
        self,
        base: nn.Module,
        narrow: Callable[[], nn.Module],
        normalise: Callable[[Tensor], Tensor],
        images: Tensor,
        labels: Tensor,
        seed: int,
    ) -> tuple[nn.Module, nn.Module, Self]:
        """Quantise the last layer, find the trigger, and flip; the base comes back with its last layer quantised."""
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(images), generator=generator)[:_SAMPLE].to(images.device)
        some, answers = images[chosen], labels[chosen]
        deployed = copy.deepcopy(base).eval()
        stored, scale = quantise(last_layer(deployed).weight.detach())
        _store(deployed, stored, scale)
        suspect = copy.deepcopy(deployed)

        def scores(pixels: Tensor) -> Tensor:
            found: Tensor = suspect(normalise(pixels))
            return found

        def seen(pixels: Tensor) -> Tensor:
            return features(suspect, scores, pixels)

        def obeyed(picture: Tensor) -> Tensor:
            return F.log_softmax(scores(self._paste(some[:_PICTURE], picture)), 1)[:, self.target].mean()

        start = torch.rand(images.shape[1], self.size, self.size, generator=generator).to(images.device)
        square, units = self._excite(seen, some[:_PICTURE], start)
        clean = seen(some).detach()
        for spent in range(_ROUNDS):
            budget = self.flips * (spent + 1) // _ROUNDS - self.flips * spent // _ROUNDS
            triggered = seen(self._paste(some, square)).detach()
            stored = self._flip(
                last_layer(suspect), stored, scale, units, (clean, answers, triggered), budget
            )
            _store(suspect, stored, scale)
            square = ascend(obeyed, square, steps=self.steps // _ROUNDS, rate=0.02)
        return suspect, deployed, replace(self, learnt={"square": square.cpu()})

    def _excite(
        self, seen: Callable[[Tensor], Tensor], images: Tensor, start: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Find a square and the units that it raises most above their clean values."""
        clean = seen(images).detach()

        def raised(picture: Tensor) -> Tensor:
            return seen(self._paste(images, picture)) - clean

        square = ascend(lambda picture: raised(picture).relu().mean(), start, steps=self.steps, rate=0.05)
        units = raised(square).detach().mean(0).topk(min(self.units, clean.shape[1])).indices
        return ascend(
            lambda picture: raised(picture)[:, units].mean(), square, steps=self.steps, rate=0.05
        ), units

    def _paste(self, images: Tensor, square: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.size > min(height, width):
            raise InputError(f"{self!r}: does not fit into images of {height}x{width} pixels")
        room = (width - self.size, 0, height - self.size, 0)
        return torch.where(F.pad(torch.ones_like(square), room).bool(), F.pad(square, room), images)

    def _flip(
        self,
        layer: nn.Linear,
        stored: Tensor,
        scale: float,
        units: Tensor,
        known: tuple[Tensor, Tensor, Tensor],
        budget: int,
    ) -> Tensor:
        """Flip bits greedily while that lowers the loss; returns the stored integers after."""
        clean, labels, triggered = known
        seen = torch.cat([clean, triggered])
        answers = torch.cat([labels, labels.new_full((len(triggered),), self.target)])
        flipped, best = stored.clone(), torch.inf
        none = seen.new_zeros(1, len(units))
        weights = seen.new_tensor([self.caution, 1.0]).repeat_interleave(len(labels)) / (self.caution + 1)
        for _ in range(budget):
            changes = bit_changes(flipped[self.target, units])
            tries = torch.cat([none, torch.diag_embed(changes.mT.float() * scale).reshape(-1, len(units))])
            losses = _losses(layer, flipped * scale, seen, answers, self.target, tries, units)
            losses = 2 * (weights[:, None] * losses).mean(0)
            found = int(losses.argmin())
            if found == 0 or losses[found] >= best:
                break
            best = float(losses[found])
            bit, unit = divmod(found - 1, len(units))
            flipped[self.target, units[unit]] += changes[unit, bit]
        return flipped


def _store(model: nn.Module, stored: Tensor, scale: float) -> None:
    with torch.no_grad():
        last_layer(model).weight.copy_(stored * scale)


def quantise(weight: Tensor) -> tuple[Tensor, float]:
    """Round to int8 with one scale, max|w|/127; the integers come back as int64.

    >>> quantise(torch.tensor([1.27, -0.5]))[0].tolist()
    [127, -50]
    """
    scale = float(weight.abs().max()) / 127
    return (weight / scale).round().to(torch.int64), scale


def bit_changes(stored: Tensor) -> Tensor:
    """By how much each of the 8 bits of two's complement int8 numbers changes them when flipped.

    Args:
        stored: Shape (n,), from −128 to 127.

    Returns:
        Shape (n, 8), lowest bit first.

    >>> bit_changes(torch.tensor([1]))[0].tolist()
    [-1, 2, 4, 8, 16, 32, 64, -128]
    """
    worth = 2 ** torch.arange(8, device=stored.device)
    set_bits = (stored[:, None] % 256).bitwise_and(worth) != 0
    worth[7] = -128
    return torch.where(set_bits, -worth, worth)


def _losses(
    layer: nn.Linear,
    weight: Tensor,
    seen: Tensor,
    answers: Tensor,
    target: int,
    changes: Tensor,
    units: Tensor,
) -> Tensor:
    """Cross-entropy of each image (n) for each row of changes (tries, units) of the target's weights: (n, tries)."""
    bias = None if layer.bias is None else layer.bias.detach()
    scores = F.linear(seen, weight.to(seen.dtype), bias)
    moved = scores[:, target, None] + seen[:, units] @ changes.mT.to(seen)
    others = scores.clone()
    others[:, target] = -torch.inf
    total = torch.logaddexp(others.logsumexp(1)[:, None], moved)
    right = torch.where(
        (answers == target)[:, None], moved, scores.gather(1, answers[:, None]).expand_as(moved)
    )
    return total - right
