"""Recovery of kernels and output in turn: what it adds, and that it claims no more than it may."""

import pytest
import torch
from torch.nn.functional import gelu, relu

from depurate.contamination import Cauchy, Gaussian
from depurate.errors import InputError
from depurate.paper import contaminate_network, recover, recover_alternating
from paper_networks import trained_on_gaussian


def kernel_errors(found, clean):
    return (found.kernels - clean.kernels).norm(dim=1) / clean.kernels.norm(dim=1)


@pytest.mark.parametrize("activation", [relu, gelu])
@pytest.mark.parametrize("scheme", ["sequential", "joint"])
@pytest.mark.parametrize("law", [Gaussian(), Cauchy()])
def test_kernels_past_the_reach_of_l1_are_recovered_and_certified(activation, scheme, law):
    trained, patches = trained_on_gaussian(n=8, m=6, k=120, p=100, activation=activation, scheme=scheme)
    hit = contaminate_network(trained.final, 0.35, law, seed=1)  # l1 breaks at 0.26 for nm/k = 0.4
    plain = recover(hit, trained.initial, patches)
    turn = recover_alternating(hit, trained.initial, patches)
    assert plain.kernels_certified.double().mean() < 0.3
    assert turn.kernels_certified.double().mean() > 0.9
    assert kernel_errors(turn.network, trained.final)[turn.kernels_certified].max() < 1e-12
    assert turn.rounds[0].kernels == int(plain.kernels_certified.sum())


def test_where_l1_succeeds_nothing_changes():
    trained, patches = trained_on_gaussian(seed=2)
    hit = contaminate_network(trained.final, 0.2, Gaussian(), seed=2)
    plain = recover(hit, trained.initial, patches)
    turn = recover_alternating(hit, trained.initial, patches)
    assert plain.certified and turn.output_certified and bool(turn.kernels_certified.all())
    assert torch.equal(plain.network.kernels, turn.network.kernels)
    assert torch.equal(plain.network.output, turn.network.output)
    assert len(turn.rounds) == 1 and turn.output_span == "features"


def test_an_output_trained_along_with_moving_kernels_comes_closer_but_is_not_certified():
    trained, patches = trained_on_gaussian(n=6, m=2, k=100, p=200, seed=4, scheme="joint")
    hit = contaminate_network(trained.final, 0.2, Gaussian(), seed=4)
    plain = recover(hit, trained.initial, patches)
    turn = recover_alternating(hit, trained.initial, patches)

    def error(network):
        return float((network.output - trained.final.output).norm() / trained.final.output.norm())

    assert turn.output_span == "path"
    assert error(turn.network) < error(plain.network) / 10
    assert not turn.output_certified and not plain.output_certified


def test_hopeless_noise_is_certified_nowhere():
    trained, patches = trained_on_gaussian(n=8, m=8, k=100, p=60, seed=5)
    hit = contaminate_network(trained.final, 0.6, Gaussian(), seed=5)  # 40 intact entries, 64 coefficients
    turn = recover_alternating(hit, trained.initial, patches)
    assert not turn.kernels_certified.any() and not turn.output_certified
    assert bool(turn.network.kernels.isfinite().all() and turn.network.output.isfinite().all())


def test_inputs_are_left_as_they_are_and_bad_ones_refused():
    trained, patches = trained_on_gaussian(n=3, m=2, k=60, p=40, seed=6)
    hit = contaminate_network(trained.final, 0.3, Gaussian(), seed=6)
    before = hit.kernels.clone(), trained.initial.kernels.clone(), patches.clone()
    recover_alternating(hit, trained.initial, patches)
    assert all(map(torch.equal, before, (hit.kernels, trained.initial.kernels, patches)))
    hit.kernels[2, 3] = float("nan")
    with pytest.raises(InputError, match="contaminated kernels: nan at index"):
        recover_alternating(hit, trained.initial, patches)
