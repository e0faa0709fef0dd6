"""Fine-pruning (FP): remove the channels that clean images leave silent, then train on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.structure import Layer, layers_of
from depurate.bench.defences.rivals.training import Schedule, accuracy, training_steps, working_copy

_PUBLISHED = Schedule(epochs=100, rate=0.01, batch=256)


@dataclass(frozen=True)
class FinePruning:
    """Channels of the last convolution go in the order of their mean activation on clean images; then fine-tuning.

    Pruning stops before the accuracy on the labelled images falls by more than `tolerated`. Pruned channels stay
    pruned while the rest is trained.

    Attributes:
        tolerated: Largest loss of accuracy by pruning, of 1 (BackdoorBench: 0.1).
        schedule: As in BackdoorBench.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"labels"})
    source: ClassVar[str] = "Liu, Dolan-Gavitt & Garg, RAID 2018, arXiv 1805.12185"
    tolerated: float = 0.1
    schedule: Schedule = _PUBLISHED

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        net = working_copy(model)
        layers = layers_of(net, given.images.shape)
        last = [layer for layer in layers if isinstance(net.get_submodule(layer.name), nn.Conv2d)][-1]
        silenced = self._silent_channels(net, last, given)
        optimiser, rate = self.schedule.optimiser(list(net.parameters()))
        generator = torch.Generator().manual_seed(seed)
        silence(net.train(), last, silenced)
        for images, labels in training_steps(given, self.schedule, rate, generator):
            optimiser.zero_grad()
            cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            silence(net, last, silenced)
        return net.eval()

    def _silent_channels(self, net: nn.Module, last: Layer, given: Given) -> Tensor:
        order = mean_activations(net, last, given.images).argsort()
        floor = accuracy(net, given) - self.tolerated
        low, high = 0, len(order) - 1
        # Largest number whose removal is tolerated; accuracy falls with the number, so halving finds it.
        while low < high:
            middle = (low + high + 1) // 2
            trial = working_copy(net)
            silence(trial, last, order[:middle])
            low, high = (middle, high) if accuracy(trial, given) >= floor else (low, middle - 1)
        return order[:low]


def mean_activations(net: nn.Module, layer: Layer, images: Tensor) -> Tensor:
    """Mean of each channel's rectified output over images and positions."""
    sums: list[Tensor] = []

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        sums.append(relu(output).mean((2, 3)).sum(0))

    handle = net.get_submodule(layer.norm or layer.name).register_forward_hook(hook)
    try:
        with torch.no_grad():
            for batch in torch.split(images, 250):
                net(batch)
    finally:
        handle.remove()
    return torch.stack(sums).sum(0) / len(images)


def silence(net: nn.Module, layer: Layer, channels: Tensor) -> None:
    """Make channels of a layer, after its BatchNorm if it has one, put out zero; changes the network."""
    module = net.get_submodule(layer.norm or layer.name)
    with torch.no_grad():
        module.get_parameter("weight")[channels] = 0
        if module.bias is not None:
            module.get_parameter("bias")[channels] = 0
