"""Robust recovery: hits found and filled in, the rest bit for bit, and nothing found where nothing is."""

import pytest
import torch

from depurate.contamination import BitFlip, Gaussian, Sparse, Stuck
from depurate.recovery import FirstLook, first_look, repair_entries, unflip_vector
from depurate.recovery.batchnorm import unlike_measured
from depurate.recovery.mixture import HitModel, Prior, fit_hits
from depurate.recovery.unflip import unflip, vanished
from depurate.spans import Moments


def layer(kernels=48, fan_in=120, seed=0):
    """An update that training on smooth patches might have made, from a random start; and the patches' moments."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(fan_in, fan_in, generator=generator))[0]
    energy = torch.arange(1, fan_in + 1).double().pow(-1.5).float()
    patches = torch.randn(2000, fan_in, generator=generator) * energy.sqrt() @ basis
    gram = (patches.mT @ patches)[None].double() / 2000
    update = torch.randn(kernels, fan_in, generator=generator) * energy.sqrt() @ basis
    start = 0.1 * torch.randn(kernels, fan_in, generator=generator)
    update = 0.1 * update / update.std() + 0.005 * torch.randn(kernels, fan_in, generator=generator)
    return (start + update)[None], start[None], Moments(2000, gram, None, patches[None, :1024], None)


def nothing(kernels):
    return torch.zeros_like(kernels, dtype=torch.bool)


@pytest.mark.parametrize("scale", [10.0, 3.0])
def test_gaussian_hits_are_found_and_filled(scale):
    clean, start, moments = layer()
    hit = Sparse(0.3, Gaussian(scale)).apply(clean, 1)
    found = repair_entries(hit.values, start, moments, nothing(clean))
    right = found.hits & hit.mask
    assert right.sum() > 0.9 * found.hits.sum()
    assert right.sum() > (0.9 if scale == 10 else 0.8) * hit.mask.sum()
    assert abs(found.share - 0.3) < 0.05
    assert found.noise is not None and abs(found.noise / (scale * float(clean.std())) - 1) < 0.15
    assert abs(found.precision - float(right.sum() / found.hits.sum())) < 0.06
    assert torch.equal(found.kernels[~found.hits], hit.values[~found.hits])
    error = (found.kernels - clean).norm() / (clean - start).norm()
    assert error < 0.4 < 0.5 * float((hit.values - clean).norm() / (clean - start).norm())


def test_a_clean_layer_stays_bit_for_bit():
    for seed in range(3):
        clean, start, moments = layer(seed=seed)
        for origin in (start, torch.zeros_like(start)):
            found = repair_entries(clean, origin, moments, nothing(clean), sparse=False)
            assert not found.hits.any() and torch.equal(found.kernels, clean)
            assert found.noise is None and found.share == 0


def test_pruned_decayed_and_heavy_layers_stay_bit_for_bit():
    clean, _, moments = layer()
    generator = torch.Generator().manual_seed(5)
    pruned = torch.where(torch.rand(clean.shape, generator=generator) < 0.9, 0.0, clean)
    decayed = clean * torch.where(torch.arange(clean.shape[1]) % 3 == 0, 1.0, 1e-20)[None, :, None]
    heavy = clean * torch.distributions.StudentT(4.0).rsample((clean.shape[1], 1)).abs()[None]
    for weights in (pruned, decayed, heavy, torch.zeros_like(clean)):
        found = repair_entries(weights, torch.zeros_like(clean), moments, nothing(clean), sparse=False)
        assert int(found.hits.sum()) <= 2, int(found.hits.sum())


def test_exponent_flips_are_taken_back_exactly():
    clean, start, moments = layer()
    hit = BitFlip(2e-3, bits="exponent").apply(clean, 3)
    certain = ~hit.values.isfinite() | (hit.values.abs() > 1e6)
    found = repair_entries(hit.values, start, moments, certain, sparse=False)
    far = hit.mask & ((hit.values - clean).abs() > 3 * clean.std())
    exact = found.kernels == clean
    assert certain.any() and bool(found.hits[far].all()) and bool(exact[certain].all())
    assert found.unflipped >= int(certain.sum())
    assert int((found.hits & ~hit.mask).sum()) <= 2


def test_nan_and_stuck_cells_are_filled_from_the_rest():
    clean, start, moments = layer()
    broken = clean.clone()
    broken[0, :, 7] = float("nan")
    found = repair_entries(broken, start, moments, nothing(clean), sparse=False)
    assert torch.equal(found.hits, broken.isnan()) and found.kernels.isfinite().all()
    stuck = Stuck(0.05, at="max").apply(clean, 2)
    found = repair_entries(stuck.values, start, moments, nothing(clean))
    assert (found.hits & stuck.mask).sum() > 0.95 * stuck.mask.sum()


def test_what_is_stuck_at_zero_is_predicted_and_not_taken_for_one_bit_from_the_smallest_numbers():
    clean, start, moments = layer()
    stuck = Stuck(0.1, at="zero").apply(clean, 2)
    found = repair_entries(stuck.values, start, moments, nothing(clean))
    assert torch.equal(found.hits, stuck.mask) and found.unflipped == 0
    assert (found.spread[found.hits] > 0).all()
    assert (found.kernels - clean).norm() < 0.5 * (stuck.values - clean).norm()


def test_dual_moments_serve_as_well():
    clean, start, moments = layer()
    few = Moments(100, None, None, moments.rows[:, :100], None)
    hit = Sparse(0.2, Gaussian(10.0)).apply(clean, 1)
    found = repair_entries(hit.values, start, few, nothing(clean))
    assert (found.hits & hit.mask).sum() > 0.9 * max(int(hit.mask.sum()), 0.9 * int(found.hits.sum()))


def test_the_first_look_tells_noise_from_weights():
    clean, start, _ = layer()
    zero = torch.zeros_like(start)
    for origin in (start, zero):
        assert first_look(clean, origin, nothing(clean)).share < 0.006
        assert (
            first_look(Sparse(0.3, Gaussian(10.0)).apply(clean, 1).values, origin, nothing(clean)).share > 0.2
        )
    assert first_look(zero, zero, nothing(zero)) == FirstLook(0.0, 0.0)


def test_few_entries_far_out_are_told_from_tails():
    clean, _, _ = layer(200, 200)
    few = Sparse(0.003, Gaussian(30.0)).apply(clean, 1).values
    assert first_look(few, torch.zeros_like(clean), nothing(clean)).far > 0.001
    tails = torch.randn(clean.shape, generator=torch.Generator().manual_seed(2)) ** 3
    for good in (clean, clean * (1 + tails.abs()) ** 0.5):
        assert first_look(good, torch.zeros_like(clean), nothing(clean)).far == 0


def test_the_mixture_finds_what_was_mixed():
    generator = torch.Generator().manual_seed(0)
    good = torch.randn(20_000, generator=generator)
    good[:4000] = torch.randn(4000, generator=generator) * 15
    model = fit_hits(good, torch.ones(20_000), Prior.of(sparse=True))
    assert abs(model.share - 0.2) < 0.02 and abs(model.noise - 15) < 0.7 and abs(model.core - 1) < 0.1
    assert fit_hits(torch.empty(0), torch.empty(0), Prior.of(sparse=True)).share == 0
    assert HitModel(0.1, 10.0, 1.0, 1.5, 0.1).posterior(torch.tensor([1e30]), torch.ones(1)).item() == 1


def test_every_high_bit_of_a_weight_can_be_taken_back():
    clean = torch.full((8,), 0.0213)
    places = torch.arange(23, 31)
    words = clean.view(torch.int32) ^ (1 << places).int()
    broken = words.view(torch.float32)
    restored, done = unflip(broken, torch.zeros(8), torch.full((8,), 0.03))
    assert torch.equal(restored[done], clean[done])
    assert bool(done[places >= 27].all())
    lost, _ = unflip(torch.full((3,), float("nan")), torch.zeros(3), torch.full((3,), 0.01))
    assert lost.isnan().all()


@pytest.mark.parametrize(("size", "damaged", "marked"), [(1e-5, True, 1), (1e-5, False, 0), (1e-9, False, 1)])
def test_where_nothing_is_surely_hit_an_entry_has_to_be_smaller_to_have_vanished(size, damaged, marked):
    weights = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)).abs() + 0.01
    weights[3, 4] = size
    assert int(vanished(weights, nothing(weights), damaged=damaged).sum()) == marked


def test_vanished_entries_are_marked_only_where_they_are_rare():
    weights = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    assert not vanished(weights, nothing(weights)).any()
    weights[5] *= 2.0**-64
    assert vanished(weights, nothing(weights)).nonzero().tolist() == [[5]]
    weights[:300] *= 1e-20
    assert not vanished(weights, nothing(weights)).any()


def test_scales_of_normalisation_are_restored_and_pruned_channels_kept():
    scales = 0.5 + 0.2 * torch.rand(64, generator=torch.Generator().manual_seed(1))
    assert not unflip_vector(scales)[1].any()
    broken = scales.clone()
    broken[3], broken[4] = scales[3] * 2.0**-32, scales[4] * 2.0**127 * 2
    assert torch.equal(unflip_vector(broken)[0], scales)
    pruned = scales.clone()
    pruned[:5] = 0.0
    assert torch.equal(unflip_vector(pruned)[0], pruned)


def test_statistics_are_judged_against_the_other_channels():
    generator = torch.Generator().manual_seed(0)
    kept = torch.stack([torch.randn(64, generator=generator), 1 + torch.rand(64, generator=generator)])
    measured = kept + 0.1 * torch.randn(2, 64, generator=generator)
    assert not unlike_measured(kept, measured).any()
    kept[0, 3], kept[1, 4] = 40.0, 1e-9
    assert unlike_measured(kept, measured).nonzero().tolist() == [[0, 3], [1, 4]]


def test_a_known_rate_of_flips_finds_those_that_stay_in_range():
    generator = torch.Generator().manual_seed(1)
    scales = 0.6 + 0.1 * torch.randn(64, generator=generator).clamp(-2.0, 2.0)
    for rate in (0.0, 1e-5, 1e-3):
        assert not unflip_vector(scales, rate)[1].any()
    broken = scales.clone()
    broken[3], broken[4] = scales[3] / 16, -scales[4]
    assert torch.equal(unflip_vector(broken, 1e-3)[0], scales)
    assert not unflip_vector(broken, 1e-7)[1].any()  # where flips are that rare it is rather the scale's own
