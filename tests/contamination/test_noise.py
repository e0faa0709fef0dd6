"""Every kind of noise: spec strings, masks, seeds, selection, and the rates that were asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from depurate import InputError
from depurate.contamination import (
    KINDS,
    BitFlip,
    Burst,
    Cauchy,
    Constant,
    Dense,
    Drift,
    Gaussian,
    NonFinite,
    Rounding,
    SignFlip,
    Sparse,
    Stuck,
    Uniform,
    contaminate,
    parse_noise,
)

RATES = st.floats(0, 1)
SCALES = st.floats(1e-6, 1e6)
LAWS = st.one_of(
    st.builds(Gaussian, SCALES),
    st.builds(Uniform, SCALES),
    st.builds(Cauchy, SCALES),
    st.builds(Constant, st.floats(-1e6, 1e6)),
)
UNITS = st.sampled_from(["std", "absolute"])
FLIPS = st.builds(
    BitFlip,
    RATES,
    st.sampled_from(["all", "exponent", "mantissa", "sign"]),
    st.sampled_from(["own", "float32", "float16", "bfloat16"]),
) | st.builds(BitFlip, RATES, st.sampled_from(["all", "mantissa", "sign"]), st.just("int8"))
NOISES = st.one_of(
    st.builds(
        Sparse,
        RATES,
        LAWS,
        UNITS,
        st.sampled_from(["free", "same", "against"]),
        st.sampled_from(["random", "largest"]),
    ),
    st.builds(Stuck, RATES, st.sampled_from(["zero", "max", "min"])),
    st.builds(SignFlip, RATES),
    FLIPS,
    st.builds(
        Burst,
        RATES,
        st.sampled_from(["kernels", "channels", "pages"]),
        LAWS,
        UNITS,
        st.sampled_from(["add", "replace"]),
        st.integers(8, 64),
    ),
    st.builds(Rounding, st.integers(2, 16)),
    st.builds(Drift, st.floats(-2, 2), st.floats(0, 2)),
    st.builds(Dense, LAWS, UNITS),
    st.builds(NonFinite, RATES, st.sampled_from(["nan", "inf", "-inf", "mixed"])),
)
SHAPES = st.lists(st.integers(0, 7), max_size=4).map(tuple)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
SEEDS = st.integers(0, 2**31)
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(values):
    return values.contiguous().view(INTEGERS[values.element_size()])


def weights(shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)


@given(noise=NOISES)
@settings(max_examples=200)
def test_the_spec_string_round_trips(noise):
    assert parse_noise(noise.spec) == noise
    assert parse_noise(f" {noise.spec} ").spec == noise.spec


def test_every_kind_is_tested_here():
    named = {Sparse, Stuck, SignFlip, BitFlip, Burst, Rounding, Drift, Dense, NonFinite}
    assert set(KINDS) == named
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


@given(noise=NOISES, shape=SHAPES, dtype=DTYPES, seed=SEEDS)
@settings(max_examples=200)
def test_the_mask_is_exact_and_the_rest_bit_for_bit(noise, shape, dtype, seed):
    clean = weights(shape, dtype)
    before = bits(clean).clone()
    found = noise.apply(clean, seed)
    assert torch.equal(bits(clean), before) and found.clean is clean
    assert found.values.shape == found.mask.shape == clean.shape and found.values.dtype == dtype
    assert torch.equal(found.mask, bits(found.values) != before)


@given(noise=NOISES, seed=SEEDS)
@settings(max_examples=60)
def test_a_seed_decides_everything(noise, seed):
    clean = weights((6, 5, 3))
    torch.manual_seed(seed % 77)
    first = noise.apply(clean, seed)
    state = torch.get_rng_state()
    second = noise.apply(clean, seed)
    assert torch.equal(bits(first.values), bits(second.values))
    assert torch.equal(torch.get_rng_state(), state)


@given(noise=NOISES, seed=SEEDS)
@settings(max_examples=40)
def test_a_tensor_is_hit_alike_whichever_others_are_selected(noise, seed):
    state = {
        "a.weight": weights((5, 4)),
        "a.bias": weights((5,)),
        "b.weight": weights((3, 5)),
        "n": torch.tensor(3),
    }
    every, one = noise.apply(state, seed), noise.apply(state, seed, layers="b.*")
    assert torch.equal(bits(every.values["b.weight"]), bits(one.values["b.weight"]))
    assert one.values["a.weight"] is state["a.weight"] and one.values["n"] is state["n"]
    assert set(every.mask) == {"a.weight", "a.bias", "b.weight"} and set(one.mask) == {"b.weight"}
    assert all(every.clean[name] is value for name, value in state.items())


def expected(count, share, found):
    low, high = stats.binom(count, share).interval(1 - 1e-7)
    assert low <= found <= high, (low, found, high)


@given(rate=st.sampled_from([0.0, 1e-4, 1e-3, 0.01, 0.04, 0.06, 0.3, 1.0]), seed=SEEDS)
@settings(max_examples=40)
def test_the_share_of_hits_is_binomial(rate, seed):
    clean = weights((30_000,))
    noises = (
        SignFlip(rate),
        NonFinite(rate),
        Sparse(rate),
        BitFlip(rate, bits="sign"),
        Stuck(rate, at="zero"),
    )
    for noise in noises:
        expected(clean.numel(), rate, int(noise.apply(clean, seed).mask.sum()))


@pytest.mark.parametrize(
    ("dtype", "where", "count"),
    [
        (torch.float32, "all", 32),
        (torch.float32, "exponent", 8),
        (torch.float32, "mantissa", 23),
        (torch.float16, "exponent", 5),
        (torch.bfloat16, "exponent", 8),
        (torch.bfloat16, "mantissa", 7),
        (torch.float64, "exponent", 11),
    ],
)
def test_bits_flip_at_their_rate_and_only_those_meant(dtype, where, count):
    clean = weights((20_000,), dtype)
    about = torch.finfo(dtype)
    changed = bits(BitFlip(0.01, bits=where).apply(clean, 1).values) ^ bits(clean)
    flipped = [int(((changed >> place) & 1).sum()) for place in range(about.bits)]
    mantissa = {32: 23, 64: 52, 16: 10 if dtype == torch.float16 else 7}[about.bits]
    meant = {
        "all": range(about.bits),
        "exponent": range(mantissa, about.bits - 1),
        "mantissa": range(mantissa),
    }[where]
    assert len(meant) == count
    assert sum(flipped[place] for place in set(range(about.bits)) - set(meant)) == 0
    expected(20_000 * count, 0.01, sum(flipped))
    for place in meant:
        expected(20_000, 0.01, flipped[place])


def test_flips_in_another_format_leave_the_others_unrounded():
    clean = weights((5_000,))
    found = BitFlip(0.01, memory="float16").apply(clean, 0)
    hit = found.values[found.mask].half()
    assert torch.equal(found.values[~found.mask], clean[~found.mask])
    assert torch.equal(hit.float().nan_to_num(7.0), found.values[found.mask].nan_to_num(7.0))
    codes = BitFlip(0.01, memory="int8").apply(clean, 0)
    step = clean.abs().max() / 127
    near = codes.values[codes.mask] / step
    assert torch.allclose(near, near.round(), atol=1e-3) and near.abs().max() <= 128.01


def test_sparse_absolute_noise_is_what_contaminate_draws():
    clean = weights((50, 40))
    ours, theirs = (
        Sparse(0.2, Gaussian(3.0), "absolute").apply(clean, 4),
        contaminate(clean, 0.2, Gaussian(3.0), seed=4),
    )
    assert torch.equal(ours.values, theirs.values)


def test_noise_is_measured_in_standard_deviations():
    clean = 0.02 * weights((200, 200))
    found = Sparse(0.5, Gaussian(10.0)).apply(clean, 0)
    assert abs((found.values - clean)[found.mask].std() / clean.std() - 10) < 0.2
    assert abs((Dense(Gaussian(0.3)).apply(clean, 0).values - clean).std() / clean.std() - 0.3) < 0.01


def test_signs_and_places_of_an_adversary():
    clean = weights((2_000,))
    same = Sparse(0.3, Gaussian(2.0), sign="same").apply(clean, 0)
    assert bool(((same.values - clean)[same.mask] > 0).all())
    against = Sparse(0.3, Gaussian(0.1), sign="against").apply(clean, 0)
    assert bool(((against.values - clean)[against.mask] * clean[against.mask] < 0).all())
    largest = Sparse(0.1, Constant(1.0), place="largest").apply(clean, 0)
    assert clean[largest.mask].abs().min() >= clean[~largest.mask].abs().max()
    assert int(largest.mask.sum()) == 200


@pytest.mark.parametrize(("over", "axis"), [("kernels", 0), ("channels", 1)])
def test_bursts_hit_whole_slices(over, axis):
    mask = Burst(0.3, over).apply(weights((40, 30, 3, 3)), 2).mask.transpose(0, axis).flatten(1)
    assert torch.equal(mask.all(1), mask.any(1)) and 0 < mask.double().mean() < 1


def test_bursts_hit_whole_pages():
    clean = weights((100, 64))
    found = Burst(0.2, "pages", Constant(0.0), mode="replace", page=1024).apply(clean, 1)
    pages = found.mask.flatten().view(-1, 256)
    assert torch.equal(pages.all(1), pages.any(1)) and 0 < pages.double().mean() < 1
    assert not found.values[found.mask].any()


@given(count=st.integers(2, 16), seed=SEEDS)
def test_rounding_keeps_to_its_grid_and_its_error(count, seed):
    clean = torch.randn(300, generator=torch.Generator().manual_seed(seed))
    rounded = Rounding(count).apply(clean, 0).values
    largest = clean.abs().max().double()
    step = largest / (2 ** (count - 1) - 1)
    assert len(rounded.unique()) <= 2**count - 1
    # Half a step, and the rounding of the result to float32, which at 16 bits is no longer small beside it.
    assert (rounded.double() - clean.double()).abs().max() <= step / 2 + largest * 2**-24


def test_stuck_cells_read_their_level_and_drift_its_gain():
    clean = weights((1_000,))
    for at, level in (("zero", 0.0), ("max", clean.max()), ("min", clean.min())):
        found = Stuck(0.1, at=at).apply(clean, 0)
        assert bool((found.values[found.mask] == level).all())
    ratio = Drift(0.8, 0.1).apply(clean, 0).values / clean
    assert abs(ratio.mean() - 0.8) < 0.02 and abs(ratio.std() - 0.1) < 0.01


def test_contaminated_input_may_be_contaminated_again():
    once = NonFinite(0.2, "mixed").apply(weights((300,)), 0).values
    for kind in (
        Sparse(0.2),
        Stuck(0.2, at="max"),
        SignFlip(0.2),
        BitFlip(0.1, memory="int8"),
        Rounding(4),
        Burst(0.2),
    ):
        assert kind.apply(once, 1).values.shape == once.shape


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "unknown kind"),
        ("gamma:rate=1", "unknown kind"),
        ("sparse", "rate is missing"),
        ("sparse:rate=2", "rate"),
        ("sparse:rate=x", "must be a number"),
        ("sparse:rate=0.1,rate=0.2", "once"),
        ("sparse:rate=0.1,law=levy", "unknown law"),
        ("sparse:rate=0.1,scale=-1", "positive"),
        ("sparse:rate=0.1,scale=wide", "numbers"),
        ("sparse:rate=0.1,colour=red", "unknown setting colour"),
        ("sparse:rate", "NAME=VALUE"),
        ("bitflip:rate=0.1,bits=odd", "bits"),
        ("bitflip:rate=0.1,bits=exponent,memory=int8", "int8"),
        ("burst:rate=0.1,page=2", "page"),
        ("rounding:bits=1", "2 to 16"),
        ("drift:gain=nan", "finite"),
        ("nonfinite:rate=nan", "rate"),
    ],
)
def test_bad_specs_say_what_is_wrong(spec, said):
    with pytest.raises(InputError, match=said) as caught:
        parse_noise(spec)
    assert "\n" not in str(caught.value)


def test_a_selection_of_nothing_is_refused():
    with pytest.raises(InputError, match="selects none"):
        SignFlip(0.1).apply({"a": torch.ones(2)}, 0, layers="b*")
    with pytest.raises(InputError, match=r"torch\.int64"):
        SignFlip(0.1).apply(torch.ones(2).long(), 0)
