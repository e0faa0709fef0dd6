"""Predictions of entries are the conditional means of a Gaussian field, by its covariance written out."""

import pytest
import torch

from depurate.recovery.kriging import Field, Ground, predict_entries, predict_hits

# Fewer patches than entries, and more: the two forms of the smoother.
PATCHES = [pytest.param(5, id="few-patches"), pytest.param(30, id="many-patches")]
ALONE = Field(others=0.0, nugget=0.5)


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def conditional(covariance, nugget, values, given, at):
    """K_SG (K_GG + νI)⁻¹ y_G."""
    noisy = covariance[given][:, given] + nugget * torch.eye(int(given.sum()))
    return covariance[at][:, given] @ torch.linalg.solve(noisy, values[given])


@pytest.mark.parametrize("patches", PATCHES)
def test_a_good_entry_is_predicted_from_all_others(patches):
    ground = Ground(drawn(patches, 12, seed=0))
    update = drawn(3, 12, seed=1)
    found = predict_entries(update, torch.zeros_like(update, dtype=torch.bool), ground, ALONE)
    covariance = ground.factor.mT @ ground.factor
    for entry in range(12):
        at = torch.arange(12) == entry
        for kernel in range(3):
            wanted = conditional(covariance, ALONE.nugget, update[kernel], ~at, at)
            assert found[kernel, entry] == pytest.approx(float(wanted), abs=1e-4)


@pytest.mark.parametrize("patches", PATCHES)
@pytest.mark.parametrize("predict", [predict_entries, predict_hits])
def test_hit_entries_are_predicted_from_the_good_ones(patches, predict):
    ground = Ground(drawn(patches, 12, seed=2))
    update, hits = drawn(3, 12, seed=3), drawn(3, 12, seed=4) > 0.8
    assert bool(hits.any())
    found = predict(torch.where(hits, 0.0, update), hits, ground, ALONE, 2000)
    covariance = ground.factor.mT @ ground.factor
    for kernel in range(3):
        wanted = conditional(covariance, ALONE.nugget, update[kernel], ~hits[kernel], hits[kernel])
        assert torch.allclose(found[kernel, hits[kernel]], wanted, atol=1e-3)


@pytest.mark.parametrize("patches", PATCHES)
def test_other_kernels_count_and_a_kernel_is_not_its_own_witness(patches):
    ground, update = Ground(drawn(patches, 12, seed=5)), drawn(4, 12, seed=6)
    field = Field(others=0.3, nugget=0.5)
    found = predict_entries(update, torch.zeros_like(update, dtype=torch.bool), ground, field)
    others = update[1:]
    second = others.mT @ others / others.square().sum(0).mean()
    covariance = ground.factor.mT @ ground.factor + 0.3 * second
    at = torch.arange(12) == 7
    wanted = conditional(covariance, 0.5, update[0], ~at, at)
    assert found[0, 7] == pytest.approx(float(wanted), abs=1e-4)


def test_hits_alone_are_what_one_pass_less_predicts_of_them():
    ground, update, field = Ground(drawn(5, 12, seed=7)), drawn(8, 12, seed=8), Field(0.1, 0.3)
    hits = drawn(8, 12, seed=9) > 1
    few, many = predict_hits(update, hits, ground, field, 4), predict_entries(update, hits, ground, field, 3)
    assert torch.allclose(few[hits], many[hits], atol=1e-6)
    assert torch.equal(few[~hits], update[~hits])
