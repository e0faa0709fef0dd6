"""Certain hits: none among trained weights, all among the absurd; and filling them against the dense formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depurate.recovery import certain_hits, hit_kernels, hit_statistics
from depurate.recovery.entries import fill_entries, stuck_entries
from depurate.spans import Moments

SHAPES = [(1,), (2,), (10,), (64, 27), (512, 512, 3, 3)]


def drawn(law, shape, seed=0):
    generator = np.random.default_rng(seed)
    sampler = {
        "gaussian": generator.standard_normal,
        "laplace": lambda size: generator.laplace(size=size),
        "student 3": lambda size: generator.standard_t(3, size=size),
        "uniform": lambda size: generator.uniform(-1, 1, size=size),
    }[law]
    return torch.from_numpy(sampler(shape)).float()


@pytest.mark.parametrize("scale", [1e-6, 0.02, 1.0])
@pytest.mark.parametrize("law", ["gaussian", "laplace", "student 3", "uniform"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_trained_weights_are_never_hit(law, shape, scale):
    assert not certain_hits(scale * drawn(law, shape)).any()


@pytest.mark.parametrize("law", ["gaussian", "laplace", "student 3"])
def test_small_biases_are_never_hit(law):
    """Two or three numbers easily differ a hundredfold."""
    many = 0.1 * drawn(law, (20_000, 2))
    assert not any(bool(certain_hits(pair).any()) for pair in many[:5000])


@pytest.mark.parametrize("rest", [0.0, 1e-8, 1e-20, 1e-38])
@pytest.mark.parametrize("alive", [0.01, 0.04, 0.2])
def test_pruned_and_dead_layers_are_never_hit(rest, alive):
    """Weight decay drives dead kernels towards zero without reaching it; the live ones are no noise."""
    weights = drawn("student 3", (512, 300)) * 0.05
    dead = torch.rand(512, generator=torch.Generator().manual_seed(0)) > alive
    weights[dead] = rest * drawn("gaussian", (int(dead.sum()), 300))
    assert not certain_hits(weights).any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e38, -1e38, 1e10])
@pytest.mark.parametrize("shape", SHAPES[1:4], ids=str)
def test_the_absurd_is_always_hit(value, shape):
    weights = 0.05 * drawn("gaussian", shape)
    weights.view(-1)[0] = value
    hits = certain_hits(weights)
    assert int(hits.sum()) == 1
    assert bool(hits.view(-1)[0])


@pytest.mark.parametrize("share", [0.001, 0.1, 0.4, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flips_of_the_highest_exponent_bit_are_found_however_many(share, dtype):
    weights = 0.05 * drawn("gaussian", (300, 100)).to(dtype)
    flipped = torch.rand(300, 100, generator=torch.Generator().manual_seed(1)) < share
    bits, one = (torch.int32, 1 << 30) if dtype is torch.float32 else (torch.int16, 1 << 14)
    damaged = torch.where(flipped, (weights.view(bits) ^ one).view(dtype), weights)
    assert torch.equal(certain_hits(damaged), flipped & (damaged.abs() > 1) | ~damaged.isfinite())


def test_an_empty_or_silent_tensor_has_no_hits():
    assert not certain_hits(torch.zeros(5)).any()
    assert certain_hits(torch.empty(0)).shape == (0,)
    assert certain_hits(torch.tensor([float("nan")])).all()


def test_a_bias_is_judged_on_its_own_scale():
    kernels = 1e-3 * torch.ones(1, 4, 30)
    kernels[..., -1] = torch.tensor([20.0, 30.0, -25.0, 22.0])
    assert not hit_kernels(kernels, bias=True).any()
    assert int(hit_kernels(kernels, bias=False).sum()) == 4


def test_statistics_are_hit_when_not_finite_negative_or_absurd():
    mean, variance = torch.randn(6), torch.tensor([1e-12, 1.0, 50.0, -1e-3, float("nan"), 1e36])
    mean[1] = float("inf")
    assert hit_statistics(mean, variance).nonzero().tolist() == [[0, 1], [1, 3], [1, 4], [1, 5]]


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 40),
    fan_in=st.integers(2, 20),
    share=st.floats(0.05, 1.0),
    dual=st.booleans(),
    prior=st.sampled_from([0.01, 0.3]),
)
def test_filling_is_the_conditional_mean_of_a_gaussian(count, fan_in, share, dual, prior):
    torch.manual_seed(fan_in * count)
    groups, kernels = 2, 3
    x = torch.randn(groups, count, fan_in).double()
    gram = x.mT @ x / count
    values, anchor = torch.randn(2, groups, kernels, fan_in).double()
    hits = torch.rand(groups, kernels, fan_in) < share
    damaged = torch.where(hits, torch.tensor(float("nan")).double(), values)
    moments = Moments(count, None if dual else gram, None, x, None)
    filled = fill_entries(damaged, hits, anchor, moments, prior)
    assert torch.equal(filled[~hits], values[~hits])
    for group in range(groups):
        covariance = gram[group].numpy() + prior * gram[group].diagonal().mean().item() * np.eye(fan_in)
        for kernel in range(kernels):
            bad = hits[group, kernel].numpy()
            update = (values - anchor)[group, kernel].numpy()
            mean = covariance[np.ix_(bad, ~bad)] @ np.linalg.solve(
                covariance[np.ix_(~bad, ~bad)], update[~bad]
            )
            found = (filled - anchor)[group, kernel].numpy()[bad]
            np.testing.assert_allclose(found, mean, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dual", [True, False])
def test_without_any_signal_hit_entries_take_the_anchor(dual):
    x = torch.zeros(1, 4, 3).double()
    moments = Moments(4, None if dual else x.mT @ x, None, x, None)
    anchor = torch.full((1, 1, 3), 0.5)
    filled = fill_entries(
        torch.tensor([[[1.0, float("nan"), 2.0]]]), torch.tensor([[[False, True, False]]]), anchor, moments
    )
    assert filled.tolist() == [[[1.0, 0.5, 2.0]]]


def test_many_hits_in_a_wide_layer_need_no_square_of_its_fan_in():
    fan_in = 25_000
    x = torch.randn(1, 20, fan_in, generator=torch.Generator().manual_seed(0))
    hits = torch.zeros(1, 2, fan_in, dtype=torch.bool)
    hits[0, 0], hits[0, 1, ::2] = True, True
    kernels = torch.ones(1, 2, fan_in).masked_fill(hits, float("inf"))
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        filled = fill_entries(kernels, hits, torch.zeros(1, 2, fan_in), Moments(20, None, None, x, None))
    assert bool(filled.isfinite().all())
    assert bool((filled[0, 0] == 0).all())
    assert max(event.cpu_memory_usage for event in seen.events()) < 4 * x.numel() * 8


def test_scattered_entries_of_one_number_are_stuck():
    values = drawn("gaussian", (40, 60))
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    for number in (0.0, float(values.max())):
        held = torch.where(mask, number, values)
        assert torch.equal(stuck_entries(held), held == number)


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values,
        lambda values: torch.where(values.abs() < 0.7, 0.0, values),  # pruned
        lambda values: (20 * values).round() / 20,  # quantised
        lambda values: torch.cat([values[:, :-1], torch.zeros(40, 1)], 1),  # biases never trained
        lambda values: torch.cat([values[:-3], torch.zeros(3, 60)]),  # dead kernels
        lambda values: values.masked_fill(values > 2, torch.nan),
    ],
)
def test_what_training_or_compression_made_alike_is_not_stuck(change):
    assert not stuck_entries(change(drawn("gaussian", (40, 60)))).any()
