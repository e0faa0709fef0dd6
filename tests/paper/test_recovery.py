"""Recovery: exact and certified under any law and activation, and honest where it is not exact."""

from dataclasses import replace

import pytest
import torch

from depurate import InputError
from depurate.contamination import Cauchy, Constant, Gaussian, Uniform
from depurate.paper import PatchNetwork, contaminate_network, recover, relative_errors, train
from paper_networks import ACTIVATIONS, gaussian_data, off_span, trained_on_gaussian

LAWS = [Gaussian(), Gaussian(1e6), Gaussian(1e-3), Uniform(), Cauchy(), Constant(), Constant(-5.0)]


def assert_exact(recovery, clean):
    errors = relative_errors(recovery, clean)
    assert float(errors.kernels.max()) <= 1e-12 and errors.output <= 1e-12
    assert bool(recovery.kernels_certified.all()) and recovery.output_certified and recovery.certified


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda psi: psi.__name__)
@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.45])
def test_every_activation_is_recovered(activation, fraction):
    trained, patches = trained_on_gaussian(n=3, m=2, k=250, activation=activation)
    hit = contaminate_network(trained.final, fraction, Gaussian(), seed=3)
    assert_exact(recover(hit, trained.initial, patches), trained.final)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_every_law_is_undone(law):
    trained, patches = trained_on_gaussian()
    hit = contaminate_network(trained.final, 0.3, law, seed=3)
    before = [tensor.clone() for tensor in (hit.kernels, hit.output, trained.initial.kernels, patches)]
    recovery = recover(hit, trained.initial, patches)
    assert_exact(recovery, trained.final)
    after = (hit.kernels, hit.output, trained.initial.kernels, patches)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    spared = hit.kernels == trained.final.kernels
    assert torch.equal(recovery.network.kernels[spared], trained.final.kernels[spared])


def test_thousands_of_small_steps_are_recovered_as_well():
    patches, targets = gaussian_data(4, 3, 150)
    network = PatchNetwork.initialise(300, 150, seed=0)
    trained = train(network, patches, targets, steps=500, rate=2e-5)
    assert len(trained.losses) == 1001
    hit = contaminate_network(trained.final, 0.3, Gaussian(), seed=3)
    assert_exact(recover(hit, trained.initial, patches), trained.final)


def test_the_order_of_the_inputs_does_not_matter():
    trained, patches = trained_on_gaussian()
    hit = contaminate_network(trained.final, 0.2, Gaussian(), seed=3)
    assert_exact(recover(hit, trained.initial, patches.flip(0, 1)), trained.final)


def test_joint_training_leaves_beta_at_the_drift_of_the_features_and_says_so():
    for units in (100, 1000):
        trained, patches = trained_on_gaussian(scheme="joint", p=units)
        clean = trained.final
        hit = contaminate_network(clean, 0.2, Gaussian(), seed=3)
        recovery = recover(hit, trained.initial, patches)
        errors = relative_errors(recovery, clean)
        assert float(errors.kernels.max()) <= 1e-12 and bool(recovery.kernels_certified.all())
        update = (clean.output - trained.initial.output)[:, None]
        drift = float(off_span(update, clean.features(patches).T)) * float(
            update.norm() / clean.output.norm()
        )
        assert drift * (1 - 1e-9) <= errors.output <= 1.5 * drift
        assert errors.output < 1e-3
        assert not recovery.output_certified and not recovery.certified


def test_nothing_is_certified_where_the_patches_span_everything():
    trained, patches = trained_on_gaussian(n=10, m=5, k=30, p=60)
    hit = contaminate_network(trained.final, 0.1, Gaussian(), seed=3)
    recovery = recover(hit, trained.initial, patches)
    assert torch.equal(recovery.network.kernels, hit.kernels)
    assert not bool(recovery.kernels_certified.any()) and not recovery.output_certified


def test_past_the_threshold_no_wrong_kernel_is_certified_and_l1_itself_is_to_blame():
    trained, patches = trained_on_gaussian(n=4, m=4, k=60, p=200)
    wrong = certified = 0
    for fraction in (0.3, 0.4, 0.5, 0.6):
        hit = contaminate_network(trained.final, fraction, Gaussian(), seed=3)
        recovery = recover(hit, trained.initial, patches)
        bad = relative_errors(recovery, trained.final).kernels > 1e-12
        noise = (hit.kernels - trained.final.kernels).abs().sum(1)
        assert bool((recovery.kernel_solution.objective < noise * (1 - 1e-9))[bad].all())
        wrong, certified = wrong + int(bad.sum()), certified + int(recovery.kernels_certified.sum())
        assert not bool((bad & recovery.kernels_certified).any())
    assert wrong > 100 and certified > 100


def test_dead_units_are_no_evidence_for_beta():
    # A third of the units never fire: their features are zero, and their weights fit exactly whatever v is.
    initial = PatchNetwork.initialise(90, 40, seed=0)
    patches = gaussian_data(6, 1, 40)[0].abs()
    kernels = torch.where(torch.arange(90)[:, None] < 30, -initial.kernels.abs(), initial.kernels)
    trained = train(replace(initial, kernels=kernels), patches, torch.ones(6).double())
    hit = contaminate_network(trained.final, 0.0, Gaussian(), seed=0)
    noise = torch.where(torch.arange(90) < 30, 0.0, torch.linspace(1, 2, 90).double())
    recovery = recover(replace(hit, output=hit.output + noise), trained.initial, patches)
    assert int(recovery.output_solution.zeros[0]) > recovery.output_solution.rank
    assert relative_errors(recovery, trained.final).output > 1e-3
    assert not recovery.output_certified


def test_float32_is_recovered_to_its_own_precision():
    patches, targets = gaussian_data(4, 3, 150, dtype=torch.float32)
    network = PatchNetwork.initialise(100, 150, seed=0, dtype=torch.float32)
    trained = train(network, patches, targets, tolerance=1e-6)
    hit = contaminate_network(trained.final, 0.2, Gaussian(), seed=3)
    recovery = recover(hit, trained.initial, patches)
    assert recovery.network.kernels.dtype == torch.float32
    assert float(relative_errors(recovery, trained.final).kernels.max()) < 1e-5


def test_networks_that_do_not_match_are_refused():
    one, other = (PatchNetwork.initialise(4, size, seed=0) for size in (3, 5))
    patches = torch.ones(1, 1, 3).double()
    with pytest.raises(InputError, match=r"\(4, 3\).*\(4, 5\)"):
        recover(one, other, patches)
    with pytest.raises(InputError, match=r"contaminated output: nan at index \(2,\)"):
        recover(replace(one, output=torch.tensor([1, 1, float("nan"), 1]).double()), one, patches)
    with pytest.raises(InputError, match=r"\(n, m, 3\)"):
        recover(one, one, torch.ones(1, 1, 5).double())
