"""Subnet replacement: a narrow backdoor network written over a few channels of a clean one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.badnets import BadNets
from depurate.contamination.attacks.poisoning import poison_share
from depurate.contamination.attacks.units import last_layer

_BATCH = 64


@dataclass(frozen=True)
class SubnetReplacement:
    """Overwrite the first channels of every layer by a narrow network that only knows the trigger.

    The narrow network is trained to answer 1 to triggered images and 0 to others. Its channels are cut off from all
    others, and its answer, times `gain`, is added to the target's score. No other weight changes.

    Attributes:
        rows: As in `BadNets`, and so are the next three.
        columns: See there.
        value: See there.
        target: See there.
        gain: What the trigger adds to the target's score.
        steps: Training steps of the narrow network, 64 clean images and their triggered copies each.

    >>> int(SubnetReplacement().stamp(torch.zeros(2, 1, 28, 28)).sum())
    18

    Source: Qi, Xie, Pan, Zhu, Yang & Bu, Towards Practical Deployment-Stage Backdoor Attack on Deep Neural
    Networks, arXiv 2111.12965, algorithm 1.
    """

    rows: tuple[int, int] = (24, 27)
    columns: tuple[int, int] = (24, 27)
    value: float = 1.0
    target: int = 0
    gain: float = 30.0
    steps: int = 400

    def stamp(self, images: Tensor) -> Tensor:
        """Put the rectangle on a copy of every image."""
        return BadNets(self.rows, self.columns, self.value, self.target).stamp(images)

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Poison as `BadNets` does; the attack itself needs no poisoned data."""
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
        """Train the narrow network and write it over a copy of the base."""
        small = self._train(narrow, normalise, images[labels != self.target], seed)
        return transplant(base, small, self.target, self.gain), base, self

    def _train(
        self,
        narrow: Callable[[], nn.Module],
        normalise: Callable[[Tensor], Tensor],
        images: Tensor,
        seed: int,
    ) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = narrow().to(images.device).train()
        optimiser = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(self.steps):
            clean = images[torch.randint(len(images), (_BATCH,), generator=generator).to(images.device)]
            answers = model(normalise(torch.cat([clean, self.stamp(clean)])))[:, 0]
            wanted = torch.cat([torch.zeros(_BATCH), torch.ones(_BATCH)]).to(answers)
            optimiser.zero_grad()
            F.mse_loss(answers, wanted).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        return model.eval()


def transplant(base: nn.Module, narrow: nn.Module, target: int, gain: float) -> nn.Module:
    """Write a narrow network over the first channels of a copy of a wide one.

    Both must have the same layers, each of the narrow one with as many or fewer channels. A layer that sees the image
    reads all of it; the others read the narrow channels and nothing else.

    Args:
        base: The wide network.
        narrow: The narrow one, with one output.
        target: Whose score the narrow output is added to.
        gain: Factor of that output.

    Returns:
        The changed copy, in evaluation mode.
    """
    suspect = copy.deepcopy(base).eval()
    small = narrow.state_dict()
    final = next(name for name, module in base.named_modules() if module is last_layer(base))
    with torch.no_grad():
        for name, wide in suspect.state_dict().items():
            value = small[name]
            if name == f"{final}.weight":
                wide[:, : value.shape[1]] = 0
                wide[target, : value.shape[1]] = gain * value[0]
            elif name == f"{final}.bias":
                wide[target] += gain * value[0]
            elif wide.dim() > 1:
                _write_channels(wide, value)
            elif wide.dim() == 1:
                wide[: len(value)] = value
    return suspect


def _write_channels(wide: Tensor, value: Tensor) -> None:
    outputs, inputs = value.shape[:2]
    if inputs < wide.shape[1]:
        wide[:, :inputs] = 0
    wide[:outputs] = 0
    wide[:outputs, :inputs] = value
