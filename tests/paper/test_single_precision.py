"""float32: what is certified is right to a thousandth of what was trained, and misfits are not taken for rounding."""

import pytest
import torch

from depurate.contamination import Gaussian
from depurate.paper import PatchNetwork, contaminate_network, recover, train
from depurate.paper.undo import undo


def trained(scheme, scale, units=400, steps=500, seed=0):
    draw = torch.Generator().manual_seed(seed)
    patches = torch.randn(6, 2, 100, generator=draw)
    targets = scale * torch.randn(6, generator=draw)
    start = PatchNetwork.initialise(units, 100, seed=seed)
    start = PatchNetwork(start.kernels.float(), start.output.float())
    return train(start, patches, targets, scheme=scheme, steps=steps), patches


def moved(found, clean, start):
    # A unit that never moved is off by nothing, of nothing.
    return ((found - clean).double().norm(dim=-1) / (clean - start).double().norm(dim=-1)).nan_to_num(0.0)


@pytest.mark.parametrize("scale", [1e-4, 1e-2])
@pytest.mark.parametrize("share", [0.0, 0.2])
def test_an_output_trained_at_once_with_the_kernels_is_not_certified(scale, share):
    """β − β(0) is 8 % off the span of its features, and smooth: many rows of the misfit lie within rounding."""
    run, patches = trained("joint", scale)
    hit = contaminate_network(run.final, share, Gaussian(), seed=1) if share else run.final
    features = run.final.features(patches).T
    found = undo(features, hit.output[:, None], run.initial.output[:, None])
    assert not found.certified.any()
    recovered = recover(hit, run.initial, patches)
    assert not recovered.output_certified
    assert recovered.kernels_certified.double().mean() > 0.95


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0])
def test_an_output_trained_on_its_own_is_certified(scale):
    run, patches = trained("sequential", scale)
    hit = contaminate_network(run.final, 0.2, Gaussian(), seed=1)
    found = undo(run.final.features(patches).T, hit.output[:, None], run.initial.output[:, None])
    assert found.certified.all()
    assert moved(found.weights[:, 0], run.final.output, run.initial.output) < 1e-3


@pytest.mark.parametrize("scheme", ["joint", "sequential"])
def test_certified_kernels_are_right_to_a_thousandth_of_their_update(scheme):
    """Those with a small β hardly moved, by 1e-6 of their weights, which float32 cannot tell: not certified."""
    run, patches = trained(scheme, 1e-3, units=800)
    hit = contaminate_network(run.final, 0.2, Gaussian(), seed=1)
    found = recover(hit, run.initial, patches)
    off = moved(found.network.kernels, run.final.kernels, run.initial.kernels)
    assert off[found.kernels_certified].max() < 1e-3
    assert found.kernels_certified.double().mean() > 0.95
