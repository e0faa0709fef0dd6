"""Bursts: kernels, pages and channels hit as a whole are found as a whole, and large kernels are left alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depurate.contamination import Burst, Gaussian
from depurate.recovery import first_look, repair_entries
from depurate.recovery.bursts import burst_entries, capped
from depurate.spans import Moments


def layer(kernels=48, fan_in=144, seed=0):
    """Kernels that smooth patches predict in part, some larger than others as training leaves them."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(fan_in, fan_in, generator=generator))[0]
    energy = torch.arange(1, fan_in + 1).float().pow(-1.5)
    patches = torch.randn(2000, fan_in, generator=generator) * energy.sqrt() @ basis
    weights = torch.randn(kernels, fan_in, generator=generator) * energy.sqrt() @ basis
    weights = weights / weights.std() + 0.1 * torch.randn(kernels, fan_in, generator=generator)
    weights = 0.1 * weights * (0.15 * torch.randn(kernels, 1, generator=generator)).exp()
    gram = (patches.mT @ patches)[None].double() / 2000
    return weights[None], Moments(2000, gram, None, patches[None, :1024], None)


def burst(weights, over):
    # Laid out as a convolution's weight: sixteen channels of three by three.
    kernel = weights.reshape(len(weights[0]), 16, 3, 3)
    hit = Burst(0.1, over=over, law=Gaussian(10.0), page=1200).apply(kernel, 3)
    return hit.values.reshape(weights.shape), hit.mask.reshape(weights.shape)


@pytest.mark.parametrize("over", ["kernels", "channels", "pages"])
def test_bursts_are_seen_and_found_whole(over):
    weights, moments = layer()
    suspect, mask = burst(weights, over)
    nothing = torch.zeros_like(mask)
    looked = first_look(suspect, torch.zeros_like(weights), nothing)
    assert looked.share > 0.006  # from where on a network is looked at closely
    found = repair_entries(suspect, torch.zeros_like(weights), moments, nothing)
    assert (found.hits & mask).sum() > 0.98 * mask.sum()
    assert (found.hits & ~mask).sum() < 0.05 * mask.sum()
    assert torch.equal(found.kernels[~found.hits], suspect[~found.hits])
    assert (found.kernels - weights).norm() < 0.2 * (suspect - weights).norm()


def test_kernels_that_are_large_by_nature_are_left_alone():
    weights, moments = layer()
    nothing = torch.zeros_like(weights, dtype=torch.bool)
    assert first_look(weights, torch.zeros_like(weights), nothing).share < 0.006
    weights[0, 7] *= 3
    found = repair_entries(weights, torch.zeros_like(weights), moments, nothing)
    assert found.hits[0, 7].double().mean() < 0.5


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_capping_only_lowers_what_is_above_the_middle(factors):
    factors = torch.tensor(factors)
    lower = capped(factors)
    assert bool((lower <= factors).all())
    kept = factors <= factors.median()
    assert torch.allclose(lower[kept], factors[kept])


@given(st.integers(1, 30), st.integers(1, 200), st.floats(1e-6, 0.6), st.integers(0, 1000))
def test_entries_that_are_hardly_likely_hit_are_no_burst(kernels, fan_in, share, seed):
    drawn = torch.rand(kernels, fan_in, generator=torch.Generator().manual_seed(seed))
    assert not burst_entries(0.5 * drawn, share).any()


def test_a_run_within_a_long_kernel_is_a_burst_and_its_neighbours_are_not():
    probability = torch.full((4, 640), 0.01)
    probability[2, 128:192] = 0.8
    expected = torch.zeros_like(probability, dtype=torch.bool)
    expected[2, 128:192] = True
    assert torch.equal(burst_entries(probability, 0.05), expected)
