"""Small networks and data for the tests of the paper's system."""

import torch
from torch.nn.functional import elu, gelu, leaky_relu, relu, tanh

from depurate.paper import PatchNetwork, train

ACTIVATIONS = [relu, leaky_relu, elu, gelu, tanh]


def gaussian_data(n, m, k, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1000 + seed)
    patches = torch.randn(n, m, k, generator=generator, dtype=torch.float64)
    return patches.to(dtype), torch.randn(n, generator=generator, dtype=torch.float64).to(dtype)


def trained_on_gaussian(n=4, m=3, k=150, p=300, seed=0, activation=relu, **options):
    patches, targets = gaussian_data(n, m, k, seed)
    network = PatchNetwork.initialise(p, k, activation=activation, seed=seed)
    return train(network, patches, targets, **options), patches


def off_span(update, design):
    """Share of each column of `update` outside col(design), by an SVD of its own."""
    basis = torch.linalg.svd(design, full_matrices=False)[0]
    outside = update - basis @ (basis.T @ update)
    return outside.norm(dim=0) / update.norm(dim=0)
