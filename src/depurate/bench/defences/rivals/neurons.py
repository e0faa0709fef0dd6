"""Neurons that can be masked: the channels of BatchNorm, or of the layers themselves where there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.structure import BATCH_NORM, layers_of
from depurate.bench.defences.rivals.training import accuracy, working_copy


@dataclass(frozen=True, eq=False)
class Neurons:
    """The maskable neurons of a network, layer by layer, each with its weights and its bias.

    Attributes:
        model: The network they belong to.
        names: Module names.
    """

    model: nn.Module
    names: tuple[str, ...]

    def constant(self, value: float) -> dict[str, Tensor]:
        """One number for every neuron."""
        return {name: self._weight(name).new_full((len(self._weight(name)),), value) for name in self.names}

    def scaled_answers(
        self, images: Tensor, weights: Mapping[str, Tensor], biases: Mapping[str, Tensor]
    ) -> Tensor:
        """Run the network with the weights and the bias of every neuron multiplied: f(x; m ∘ w, n ∘ b)."""
        changed: dict[str, Tensor] = {}
        for name in self.names:
            weight, bias = self._weight(name), self.model.get_submodule(name).bias
            changed[f"{name}.weight"] = weight * _along(weights[name], weight)
            if isinstance(bias, Tensor):
                changed[f"{name}.bias"] = bias * biases[name]
        answers: Tensor = functional_call(self.model, changed, (images,))
        return answers

    def pruned(self, masks: Mapping[str, Tensor], threshold: float) -> nn.Module:
        """Copy the network and set the weights of every neuron whose mask is at most the threshold to zero."""
        copied = working_copy(self.model)
        with torch.no_grad():
            for name in self.names:
                weight = copied.get_submodule(name).get_parameter("weight")
                weight[masks[name] <= threshold] = 0
        return copied

    def _weight(self, name: str) -> Tensor:
        return self.model.get_submodule(name).get_parameter("weight")


def neurons_of(model: nn.Module, shape: torch.Size) -> Neurons:
    """Find the maskable neurons: those of BatchNorm where the network has any, else of every layer but the last.

    Args:
        model: The network.
        shape: Of a batch of images.
    """
    norms = tuple(name for name, m in model.named_modules() if isinstance(m, BATCH_NORM) and m.affine)
    return Neurons(model, norms or tuple(layer.name for layer in layers_of(model, shape)[:-1]))


def prune_by_accuracy(
    neurons: Neurons, masks: Mapping[str, Tensor], held_back: Given, tolerated: float, step: float = 0.05
) -> nn.Module:
    """Prune at the largest threshold that costs no more than tolerated on images held back; no trigger is seen.

    Args:
        neurons: Of the suspect.
        masks: One number from 0 to 1 a neuron; small ones go first.
        held_back: Labelled clean images that the masks were not learnt from.
        tolerated: Loss of accuracy on them, of 1.
        step: Between thresholds, which run from 0 to 0.9.

    Returns:
        The pruned copy; the unpruned one where every threshold costs too much.
    """
    floor = accuracy(neurons.model, held_back) - tolerated
    best = neurons.pruned(masks, -1.0)
    for turn in range(round(0.9 / step) + 1):
        candidate = neurons.pruned(masks, turn * step)
        # Accuracy need not fall step by step: pruning more can make up for what pruning less broke.
        if accuracy(candidate, held_back) >= floor:
            best = candidate
    return best


def _along(factors: Tensor, weight: Tensor) -> Tensor:
    return factors.view(-1, *[1] * (weight.ndim - 1))
