"""Gradient descent against autograd, spans of the updates, schemes, rates and refusals."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depurate import InputError
from depurate.paper import PatchNetwork, train
from depurate.paper.training import gradients, tangent_gram
from paper_networks import ACTIVATIONS, gaussian_data, off_span, trained_on_gaussian


def autograd_network(network):
    return replace(
        network,
        kernels=network.kernels.clone().requires_grad_(),
        output=network.output.clone().requires_grad_(),
    )


@settings(deadline=None, max_examples=30)
@given(
    n=st.integers(1, 5),
    m=st.integers(1, 4),
    k=st.integers(1, 6),
    p=st.integers(1, 6),
    activation=st.sampled_from(ACTIVATIONS),
)
def test_gradients_against_autograd(n, m, k, p, activation):
    patches, targets = gaussian_data(n, m, k, seed=p)
    network = PatchNetwork.initialise(p, k, activation=activation, seed=1)
    live = autograd_network(network)
    (0.5 * (live.predict(patches) - targets).square().sum()).backward()
    kernels, output = gradients(network, patches, network.predict(patches) - targets)
    torch.testing.assert_close(kernels, live.kernels.grad, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(output, live.output.grad, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda psi: psi.__name__)
def test_tangent_gram_against_the_jacobian(activation):
    patches, _ = gaussian_data(4, 3, 6)
    network = PatchNetwork.initialise(5, 6, activation=activation, seed=1)
    jacobians = torch.autograd.functional.jacobian(
        lambda kernels, output: replace(network, kernels=kernels, output=output).predict(patches),
        (network.kernels, network.output),
    )
    grams = [part.flatten(1) @ part.flatten(1).T for part in jacobians]
    for kernels, output, expected in (
        (True, False, grams[0]),
        (False, True, grams[1]),
        (True, True, grams[0] + grams[1]),
    ):
        found = tangent_gram(network, patches, kernels=kernels, output=output)
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda psi: psi.__name__)
@pytest.mark.parametrize("scheme", ["sequential", "joint"])
def test_training_fits_and_never_mutates(activation, scheme):
    patches, targets = gaussian_data(4, 3, 60)
    network = PatchNetwork.initialise(100, 60, activation=activation, seed=0)
    before = [tensor.clone() for tensor in (network.kernels, network.output, patches, targets)]
    trained = train(network, patches, targets, scheme=scheme)
    after = (network.kernels, network.output, patches, targets)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert trained.initial is network
    assert trained.losses[-1] <= 1e-8 * trained.losses[0]
    last = 0.5 * float((trained.final.predict(patches) - targets).square().sum())
    assert last == pytest.approx(trained.losses[-1], rel=1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda psi: psi.__name__)
def test_sequential_updates_lie_in_the_spans(activation):
    trained, patches = trained_on_gaussian(activation=activation)
    moved = trained.final.kernels - trained.initial.kernels
    live = moved.norm(dim=1) > 1e-9
    assert live.double().mean() > 0.9
    assert off_span(moved[live].T, patches.flatten(0, 1).T).max() < 1e-10
    update = (trained.final.output - trained.initial.output)[:, None]
    assert float(update.norm()) > 1e-4
    assert off_span(update, trained.final.features(patches).T).max() < 1e-10


def test_thousands_of_small_steps_stay_in_the_spans():
    patches, targets = gaussian_data(4, 3, 60)
    network = PatchNetwork.initialise(40, 60, seed=0)
    rate = float(1 / torch.linalg.eigvalsh(tangent_gram(network, patches, kernels=True, output=True))[-1])
    trained = train(network, patches, targets, steps=3000, rate=rate / 300, tolerance=1e-12)
    assert len(trained.losses) > 4000
    moved = trained.final.kernels - trained.initial.kernels
    live = moved.norm(dim=1) > 1e-4
    assert off_span(moved[live].T, patches.flatten(0, 1).T).max() < 1e-10
    update = (trained.final.output - trained.initial.output)[:, None]
    assert off_span(update, trained.final.features(patches).T).max() < 1e-10


def test_the_sequential_scheme_holds_what_it_says():
    patches, targets = gaussian_data(4, 3, 60)
    network = PatchNetwork.initialise(100, 60, seed=0)
    only_kernels = train(network, patches, targets, steps=1)
    assert only_kernels.kernel_steps == 1 and len(only_kernels.losses) == 3
    trained = train(network, patches, targets)
    assert trained.losses[trained.kernel_steps] <= 1e-4 * trained.losses[0]
    assert trained.losses[trained.kernel_steps] > 1e-8 * trained.losses[0]
    # With Ŵ held, the rest is linear least squares in β: the loss can only fall.
    rest = trained.losses[trained.kernel_steps :]
    assert all(later < earlier for earlier, later in pairwise(rest))


def test_joint_training_moves_beta_out_of_the_feature_span_but_not_the_kernels():
    trained, patches = trained_on_gaussian(scheme="joint", p=100)
    moved = (trained.final.kernels - trained.initial.kernels).T
    live = moved.norm(dim=0) > 1e-9
    assert off_span(moved[:, live], patches.flatten(0, 1).T).max() < 1e-10
    update = (trained.final.output - trained.initial.output)[:, None]
    assert off_span(update, trained.final.features(patches).T).max() > 1e-4


def test_nothing_to_learn_is_no_step():
    patches, _ = gaussian_data(3, 2, 10)
    network = PatchNetwork.initialise(8, 10, seed=0)
    trained = train(network, patches, network.predict(patches))
    assert trained.losses == (0.0,) and trained.kernel_steps == 0
    assert torch.equal(trained.final.kernels, network.kernels)


def test_a_network_of_dead_units_stays_as_it_is():
    patches = torch.ones(2, 1, 3, dtype=torch.float64)
    network = PatchNetwork(-torch.ones(4, 3, dtype=torch.float64), torch.ones(4, dtype=torch.float64))
    trained = train(network, patches, torch.ones(2, dtype=torch.float64))
    assert torch.equal(trained.final.kernels, network.kernels) and trained.losses == (1.0,)


def test_bad_options_are_refused():
    patches, targets = gaussian_data(3, 2, 10)
    network = PatchNetwork.initialise(8, 10, seed=0)
    with pytest.raises(InputError, match="'both'"):
        train(network, patches, targets, scheme="both")
    with pytest.raises(InputError, match=r"\(2,\)"):
        train(network, patches, targets[:2])
    with pytest.raises(InputError, match=r"torch\.float32"):
        train(network, patches, targets.float())
    with pytest.raises(InputError, match="rate: -1"):
        train(network, patches, targets, rate=-1.0)
    with pytest.raises(InputError, match="diverged"):
        train(network, patches, targets, rate=1e3)
    with pytest.raises(InputError, match="steps"):
        train(network, patches, targets, steps=-1)
