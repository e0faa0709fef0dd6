"""Sparse noise on all weights of the paper's network."""

from __future__ import annotations

from dataclasses import replace

import torch

from depurate.contamination import Law, contaminate
from depurate.paper.network import PatchNetwork


def contaminate_network(network: PatchNetwork, fraction: float, law: Law, *, seed: int) -> PatchNetwork:
    """Contaminate kernels and output alike: Θ_j = W_j + z_j, η = β + z_β, entries of z from (1 − ε) δ₀ + ε Q.

    Args:
        network: The clean network.
        fraction: ε, the probability that an entry is hit, 0 to 1.
        law: Q.
        seed: Decides the entries and the values.

    Returns:
        A new network; the clean one is left as it is.

    >>> from depurate.contamination import Constant
    >>> clean = PatchNetwork.initialise(50, 20, seed=0)
    >>> 0.05 < (contaminate_network(clean, 0.1, Constant(), seed=1).kernels != clean.kernels).double().mean() < 0.15
    tensor(True)
    """
    weights = torch.cat([network.kernels.flatten(), network.output])
    values = contaminate(weights, fraction, law, seed=seed).values
    count = network.kernels.numel()
    return replace(network, kernels=values[:count].reshape(network.kernels.shape), output=values[count:])
