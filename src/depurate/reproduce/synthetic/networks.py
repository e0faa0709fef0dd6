"""Networks of the paper trained on Gaussian inputs, each from its own seed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import gelu, leaky_relu, relu, tanh

from depurate.paper import PatchNetwork, Trained, train
from depurate.paper.network import Activation
from depurate.reproduce.seeds import stream

ACTIVATIONS: dict[str, Activation] = {"relu": relu, "leaky_relu": leaky_relu, "gelu": gelu, "tanh": tanh}
"""ψ by the names that configs use."""


@dataclass(frozen=True)
class Shape:
    """n inputs of m patches of k numbers, p kernels."""

    n: int
    m: int
    k: int
    p: int


def trained_network(
    shape: Shape,
    seed: int,
    *,
    activation: str = "relu",
    scheme: str = "sequential",
    steps: int = 500,
    scale: float = 1.0,
) -> tuple[Trained, Tensor]:
    """Draw inputs, targets and initialisation, and train.

    Args:
        shape: Sizes.
        seed: Of all three draws, each from a stream of its own.
        activation: A name of `ACTIVATIONS`.
        scheme: `sequential` or `joint`.
        steps: Of gradient descent in each phase, at most.
        scale: Standard deviation of the targets: larger ones move the weights further.

    Returns:
        The network before and after training, and the patches, shape (n, m, k).
    """
    generator = torch.Generator().manual_seed(stream(seed, "inputs"))
    patches = torch.randn(shape.n, shape.m, shape.k, generator=generator, dtype=torch.float64)
    targets = scale * torch.randn(shape.n, generator=generator, dtype=torch.float64)
    start = stream(seed, "weights")
    network = PatchNetwork.initialise(shape.p, shape.k, activation=ACTIVATIONS[activation], seed=start)
    return train(network, patches, targets, scheme=scheme, steps=steps), patches
