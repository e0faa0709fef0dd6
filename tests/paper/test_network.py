"""The network against loops, against Conv1d, and its initialisation against its laws."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from depurate import InputError
from depurate.paper import PatchNetwork, disjoint_patches
from paper_networks import ACTIVATIONS, gaussian_data

SMALL = st.integers(1, 5)


@settings(deadline=None, max_examples=30)
@given(n=SMALL, m=SMALL, k=SMALL, p=SMALL, activation=st.sampled_from(ACTIVATIONS))
def test_features_and_prediction_by_brute_force(n, m, k, p, activation):
    patches, _ = gaussian_data(n, m, k)
    network = PatchNetwork.initialise(p, k, activation=activation, seed=n)
    for x in range(n):
        total = 0.0
        for j in range(p):
            feature = 0.0
            for i in range(m):
                dot = sum(float(network.kernels[j, t]) * float(patches[x, i, t]) for t in range(k))
                feature += float(activation(torch.tensor(dot, dtype=torch.float64)))
            assert math.isclose(float(network.features(patches)[x, j]), feature, rel_tol=1e-11, abs_tol=1e-12)
            total += float(network.output[j]) * feature
        found = float(network.predict(patches)[x])
        assert math.isclose(found, total / math.sqrt(p), rel_tol=1e-10, abs_tol=1e-11)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda psi: psi.__name__)
def test_features_are_those_of_conv1d_with_stride_k(activation):
    patches, _ = gaussian_data(6, 5, 7)
    network = PatchNetwork.initialise(11, 7, activation=activation, seed=2)
    conv = torch.nn.Conv1d(1, 11, kernel_size=7, stride=7, bias=False, dtype=torch.float64)
    with torch.no_grad():
        conv.weight.copy_(network.kernels[:, None])
        expected = activation(conv(patches.reshape(6, 1, 35))).sum(2)
    torch.testing.assert_close(network.features(patches), expected, rtol=1e-12, atol=1e-12)


def test_patches_are_those_of_conv2d_with_stride():
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 2, 6, 8, generator=generator, dtype=torch.float64)
    conv = torch.nn.Conv2d(2, 9, kernel_size=(3, 4), stride=(3, 4), dtype=torch.float64)
    kernels = torch.cat([conv.weight.detach().flatten(1), conv.bias.detach()[:, None]], dim=1)
    patches = disjoint_patches(images, (3, 4), bias=True)
    network = PatchNetwork(kernels, torch.ones(9, dtype=torch.float64))
    expected = conv(images).detach().flatten(2).mT
    torch.testing.assert_close(network.preactivations(patches), expected, rtol=1e-12, atol=1e-12)
    assert disjoint_patches(images, (3, 4)).shape == (3, 4, 24)


def test_initialisation_follows_its_laws_and_its_seed():
    network = PatchNetwork.initialise(400, 100, seed=4)
    assert stats.kstest(10 * network.kernels.flatten().numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(network.output.numpy(), "norm").pvalue > 1e-3
    again = PatchNetwork.initialise(400, 100, seed=4)
    assert torch.equal(network.kernels, again.kernels) and torch.equal(network.output, again.output)
    assert not torch.equal(network.kernels, PatchNetwork.initialise(400, 100, seed=5).kernels)
    assert PatchNetwork.initialise(3, 2, seed=0, dtype=torch.float32).output.dtype == torch.float32


def test_bad_shapes_and_types_are_refused():
    with pytest.raises(InputError, match=r"\(3, 2\) and \(2,\)"):
        PatchNetwork(torch.zeros(3, 2), torch.zeros(2))
    with pytest.raises(InputError, match=r"torch\.int64"):
        PatchNetwork(torch.zeros(3, 2).long(), torch.zeros(3).long())
    network = PatchNetwork.initialise(3, 2, seed=0)
    with pytest.raises(InputError, match=r"\(4, 5, 3\); expected \(n, m, 2\)"):
        network.features(torch.zeros(4, 5, 3))
    with pytest.raises(InputError, match=r"torch\.float32"):
        network.predict(torch.zeros(4, 5, 2))
    with pytest.raises(InputError, match="3x3 does not tile"):
        disjoint_patches(torch.zeros(1, 1, 28, 28), (3, 3))
    with pytest.raises(InputError, match=r"\(28, 28\)"):
        disjoint_patches(torch.zeros(28, 28), (7, 7))
