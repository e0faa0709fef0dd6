"""Channel Lipschitz pruning (CLP): prune the channels that can amplify a change most. Needs no data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.fine_pruning import silence
from depurate.bench.defences.rivals.structure import BATCH_NORM, Layer, layers_of
from depurate.bench.defences.rivals.training import working_copy


@dataclass(frozen=True)
class ChannelLipschitzPruning:
    """Channel k of a convolution goes when σ_k > mean + u · deviation of its layer.

    σ_k = |γ_k| / √(v_k + ε) · ‖W_k‖₂ with W_k as a matrix of input channels by positions, γ and v of the BatchNorm
    that follows (1 where there is none).

    Attributes:
        spread: u; 3 in the paper.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    source: ClassVar[str] = "Zheng et al., ECCV 2022, arXiv 2208.03111"
    spread: float = 3.0

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        net = working_copy(model)
        for layer in layers_of(net, given.unlabelled.shape):
            if isinstance(net.get_submodule(layer.name), nn.Conv2d):
                bounds = lipschitz(net, layer)
                high = bounds > bounds.mean() + self.spread * bounds.std()
                silence(net, layer, high.nonzero().flatten())
        return net


def lipschitz(net: nn.Module, layer: Layer) -> Tensor:
    """Upper bound of the Lipschitz constant of every channel of a convolution with its BatchNorm."""
    weight = net.get_submodule(layer.name).get_parameter("weight").detach()
    bounds: Tensor = torch.linalg.matrix_norm(weight.flatten(2), ord=2)
    norm = None if layer.norm is None else net.get_submodule(layer.norm)
    if isinstance(norm, BATCH_NORM) and norm.affine and norm.running_var is not None:
        bounds = bounds * (norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt())
    return bounds
