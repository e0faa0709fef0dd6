"""`contaminate`: fraction, mask, determinism, and the input left as it was."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from depurate import InputError
from depurate.contamination import Cauchy, Constant, Gaussian, Uniform, contaminate

LAWS = st.sampled_from([Gaussian(0.7), Uniform(2.0), Cauchy(0.1), Constant(3.0)])
SHAPES = st.lists(st.integers(0, 12), min_size=0, max_size=3).map(tuple)
DTYPES = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16])
SEEDS = st.integers(0, 2**63 - 1)


@settings(deadline=None, max_examples=80)
@given(shape=SHAPES, dtype=DTYPES, fraction=st.floats(0, 1), law=LAWS, seed=SEEDS)
def test_the_mask_tells_the_truth(shape, dtype, fraction, law, seed):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    before = values.clone()
    found = contaminate(values, fraction, law, seed=seed)
    assert found.clean is values and torch.equal(values, before)
    assert found.values.shape == found.mask.shape == values.shape
    assert found.values.dtype == dtype and found.mask.dtype == torch.bool
    assert torch.equal(found.values[~found.mask], values[~found.mask])
    assert found.values.data_ptr() != values.data_ptr() or values.numel() == 0


@settings(deadline=None, max_examples=40)
@given(fraction=st.floats(0, 1), law=LAWS, seed=SEEDS)
def test_one_seed_gives_one_noise_whatever_the_global_generator(fraction, law, seed):
    values = torch.linspace(-1, 1, 200, dtype=torch.float64)
    first = contaminate(values, fraction, law, seed=seed)
    torch.manual_seed(seed % 1000)
    torch.rand(3)
    state = torch.get_rng_state()
    second = contaminate(values, fraction, law, seed=seed)
    assert torch.equal(first.values, second.values) and torch.equal(first.mask, second.mask)
    assert torch.equal(torch.get_rng_state(), state)


@settings(deadline=None, max_examples=40)
@given(fraction=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_the_share_of_hits_is_binomial(fraction, seed):
    count = 5_000
    hits = int(contaminate(torch.zeros(count), fraction, Constant(), seed=seed).mask.sum())
    low, high = stats.binom(count, fraction).interval(1 - 1e-7)
    assert low <= hits <= high


@given(seed=SEEDS)
@settings(deadline=None, max_examples=20)
def test_two_laws_with_one_seed_hit_the_same_entries(seed):
    masks = [contaminate(torch.zeros(300), 0.3, law, seed=seed).mask for law in (Gaussian(), Cauchy())]
    assert torch.equal(*masks)


def test_hit_entries_follow_the_law():
    found = contaminate(torch.ones(40_000, dtype=torch.float64), 0.5, Gaussian(0.2), seed=5)
    noise = (found.values - found.clean)[found.mask]
    assert stats.kstest(noise.numpy(), stats.norm(scale=0.2).cdf).pvalue > 1e-3


def test_all_or_nothing():
    values = torch.arange(5.0)
    assert torch.equal(contaminate(values, 0.0, Constant(), seed=0).values, values)
    assert torch.equal(contaminate(values, 1.0, Constant(2.0), seed=0).values, values + 2)


def test_any_object_that_draws_is_a_law():
    @dataclass(frozen=True)
    class Signs:
        def draw(self, count, generator):
            return 2.0 * torch.randint(0, 2, (count,), generator=generator).double() - 1

    found = contaminate(torch.zeros(1000), 0.4, Signs(), seed=0)
    assert set(found.values[found.mask].tolist()) == {-1.0, 1.0}


def test_entries_that_are_not_hit_keep_nan_and_signed_zero():
    values = torch.tensor([float("nan"), -0.0, float("inf")])
    found = contaminate(values, 0.0, Constant(), seed=0)
    assert found.values.view(torch.int32).tolist() == values.view(torch.int32).tolist()


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_0_to_1_is_refused(fraction):
    with pytest.raises(InputError, match="fraction"):
        contaminate(torch.zeros(3), fraction, Gaussian(), seed=0)


def test_integers_are_refused():
    with pytest.raises(InputError, match=r"torch\.int64"):
        contaminate(torch.zeros(3, dtype=torch.int64), 0.1, Gaussian(), seed=0)
