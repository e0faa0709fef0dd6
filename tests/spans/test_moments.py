"""Streamed moments against brute force over all patches, the dual form, sampling and memory."""

import copy
import weakref
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812

from depurate.recovery import soft_recovery
from depurate.spans import Moments, Sampling, find_sites, measure, span_of
from depurate.spans.moments import GRAM_ROUNDING

EVERYTHING = Sampling(least=10**9)


def conv_pair(**settings):
    torch.manual_seed(0)
    suspect = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1, **settings)
    )
    suspect = suspect.double().eval()
    purified = copy.deepcopy(suspect)
    with torch.no_grad():
        purified[0].weight.add_(0.1 * torch.randn_like(purified[0].weight))
    return suspect, purified


@pytest.mark.parametrize("groups", [1, 2])
def test_moments_are_those_of_all_patches(groups):
    suspect, purified = conv_pair(groups=groups)
    images = torch.randn(12, 2, 9, 9).double()
    site = find_sites(suspect, images)[1]
    moments = measure(suspect, purified, site, list(images.split(5)), EVERYTHING)
    with torch.no_grad():
        seen = F.unfold(purified[:2](images), 3, padding=1, stride=2)  # (n, channels·9, positions)
        wanted = suspect(images).flatten(2)
    for group in range(groups):
        width, kernels = seen.shape[1] // groups, 6 // groups
        x = seen[:, group * width : (group + 1) * width].transpose(1, 2).flatten(0, 1)
        x = torch.cat([x, torch.ones(len(x), 1).double()], 1)
        t = wanted[:, group * kernels : (group + 1) * kernels].transpose(1, 2).flatten(0, 1)
        assert moments.count == len(x) == 12 * 16
        torch.testing.assert_close(moments.gram[group], x.mT @ x / len(x))
        torch.testing.assert_close(moments.cross[group], t.mT @ x / len(x))
        torch.testing.assert_close(moments.energy[group], x.square().mean())


def test_a_module_used_twice_gives_the_patches_of_both_calls():
    layer = nn.Linear(3, 3).double()
    net = nn.Sequential(layer, nn.Tanh(), layer)
    images = torch.randn(30, 3).double()
    moments = measure(net, net, find_sites(net, images)[0], [images], EVERYTHING)
    with torch.no_grad():
        x = torch.cat([images, layer(images).tanh()])
        x = torch.cat([x, torch.ones(60, 1).double()], 1)
    assert moments.count == 60
    torch.testing.assert_close(moments.gram[0], x.mT @ x / 60)


class Tokens(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.flat, self.first = nn.Linear(width, 3), nn.Linear(3, 2)

    def forward(self, x):
        n, t, d = x.shape
        return self.first(self.flat(x.reshape(n * t, d)).reshape(n, t, 3).transpose(0, 1)).mean(0)


def test_tokens_merged_with_images_are_not_mistaken_for_few_patches():
    """A dual form here would solve a system as large as all tokens together."""
    net, images = Tokens(40), torch.randn(30, 5, 40)
    flat, first = find_sites(net, images[:2])
    moments = measure(net, net, flat, [images], EVERYTHING)
    assert not moments.dual
    assert moments.count == 150
    assert measure(net, net, first, [images], Sampling(per_fan_in=1, least=60)).count == 2 * 30


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 30),
    fan_in=st.integers(31, 60),
    strength=st.floats(1e-3, 10),
    groups=st.integers(1, 2),
    single=st.booleans(),
)
def test_the_dual_form_solves_the_primal_problem(count, fan_in, strength, groups, single):
    torch.manual_seed(count)
    x = torch.randn(groups, count, fan_in).double()
    t = torch.randn(groups, count, 4).double()
    x, t = (x.float(), t.float()) if single else (x, t)
    anchor = torch.randn(groups, 4, fan_in).to(x)
    dual = Moments(count, None, None, x, t)
    gram, cross = (x.mT @ x).double() / count, (t.mT @ x).double() / count
    primal = Moments(count, gram, cross, x, None)
    torch.testing.assert_close(primal.energy, dual.energy, rtol=1e-6, atol=0)
    found, wanted = soft_recovery(dual, anchor, strength), soft_recovery(primal, anchor, strength)
    limit = 1e-10 if not single else 1e-6 / strength
    assert float((found - wanted).abs().max()) < limit * max(1.0, float(wanted.abs().max()))


def test_measure_takes_the_dual_form_below_the_fan_in_and_only_there():
    net = nn.Sequential(nn.Linear(20, 3)).double()
    images = torch.randn(30, 20).double()
    site = find_sites(net, images)[0]
    few = measure(net, net, site, [images[:12], images[12:20]], EVERYTHING)
    assert few.dual
    assert few.gram is None
    assert few.rows.shape == (1, 20, 21)
    torch.testing.assert_close(few.rows[0, :, :20], images[:20])
    torch.testing.assert_close(few.wanted[0], net(images[:20]).detach())
    assert not measure(net, net, site, [images], EVERYTHING).dual


def test_sampling_is_reproducible_and_bounded():
    suspect, purified = conv_pair()
    images = torch.randn(40, 2, 16, 16).double()
    site = find_sites(suspect, images)[1]
    batches = list(images.split(8))
    draw = lambda seed: measure(suspect, purified, site, batches, Sampling(2, 100, seed))  # noqa: E731
    first, again, other = draw(0), draw(0), draw(1)
    assert torch.equal(first.gram, again.gram)
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.gram, other.gram)
    assert first.count == 40 * 3  # max(100, 2·37) patches, rounded up to whole images


def test_rows_kept_beside_the_gram_are_few_and_own_their_memory():
    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    images = torch.randn(60, 1, 18, 18)
    site = find_sites(net, images)[0]
    for size in (60, 7):
        rows = measure(net, net, site, list(images.split(size)), EVERYTHING).rows
        assert 400 < rows.shape[1] <= 1024
        assert rows.untyped_storage().nbytes() == rows.numel() * 4


def test_no_batch_of_patches_outlives_its_turn():
    @dataclass(frozen=True)
    class Watched:
        """Patches backed by numpy arrays, which live exactly as long as any tensor that shares their memory."""

        inner: object
        arrays: list
        groups: int = 1
        fan_in: int = 10

        def patches(self, inputs, at):
            array = self.inner.patches(inputs, at).numpy().copy()
            self.arrays.append(weakref.ref(array))
            return torch.from_numpy(array)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    net = nn.Sequential(nn.Conv2d(1, 2, 3))
    batches = [torch.randn(4, 1, 16, 16) for _ in range(10)]
    site = find_sites(net, batches[0])[0]
    watched = Watched(site.geometry, [])
    moments = measure(net, net, replace(site, geometry=watched), batches, EVERYTHING)
    assert len(watched.arrays) == 10
    assert moments.rows.shape[1] > 500
    assert sum(array() is not None for array in watched.arrays) == 0

    alive = []
    total = Watched(site.geometry, [])

    class Counting(list):
        def __iter__(self):
            for batch in super().__iter__():
                alive.append(sum(array() is not None for array in total.arrays))
                yield batch

    measure(net, net, replace(site, geometry=total), Counting(batches), EVERYTHING)
    assert max(alive) <= 1


def test_the_sampled_rows_favour_no_place_in_the_image():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False))
    images = torch.arange(16.0).reshape(1, 1, 4, 4).expand(512, -1, -1, -1)
    site = find_sites(net, images[:2])[0]
    rows = measure(net, net, site, list(images.split(128)), EVERYTHING).rows.flatten()
    counts = torch.bincount(rows.long(), minlength=16)
    assert counts.min() > 0.5 * counts.float().mean()


def test_fills_space_agrees_with_the_rank():
    torch.manual_seed(0)
    for rank, fan_in in ((5, 8), (8, 8)):
        x = (torch.randn(1, 50, rank) @ torch.randn(rank, fan_in)).double()
        for rows in (x, x.float()):
            moments = Moments(50, (rows.mT @ rows).double() / 50, torch.zeros(1, 1, fan_in), rows, None)
            assert moments.fills_space(0) == (rank == fan_in)
            span = span_of(moments, 0)
            assert (span.rank, span.full) == (rank, rank == fan_in)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", ["gram", "dual", "sampled"])
def test_the_span_is_the_column_space_with_its_energy(dtype, form):
    torch.manual_seed(1)
    x = (torch.randn(1, 12, 4).double() @ torch.randn(4, 20).double()).to(dtype)
    gram = None if form == "dual" else (x.mT @ x).double() / 12
    moments = Moments(12, gram, None, x, None)
    span = span_of(moments, 0, at_most=10 if form == "sampled" else None)
    assert span.rank == 4
    assert span.sampled == (form == "sampled")
    singular = torch.linalg.svdvals(x[0].double())[:4]
    torch.testing.assert_close(span.energy, singular**2 / (singular**2).sum(), atol=1e-5, rtol=1e-4)
    q = span.directions
    torch.testing.assert_close(q.mT @ q, torch.eye(4).double(), atol=1e-4, rtol=0)
    off = x[0].double() - x[0].double() @ q @ q.mT
    assert off.norm() < 1e-4 * x.norm()
    held = span.holding(0.7)
    assert held.energy.sum() >= 0.7 > held.energy[:-1].sum()
    assert span.holding(1.5).rank == 4


@pytest.mark.filterwarnings("ignore")
def test_a_wide_layer_with_few_images_never_makes_a_square_of_its_fan_in():
    fan_in = 25_000
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(fan_in, 10))
    images = torch.randn(40, 1, 100, 250)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        moments = measure(net, net, find_sites(net, images[:2])[0], [images], Sampling())
        recovered = soft_recovery(moments, torch.zeros(1, 10, fan_in + 1), 0.1)
        assert span_of(moments, 0).rank == 40
    assert moments.dual
    assert recovered.shape == (1, 10, fan_in + 1)
    largest = max(event.cpu_memory_usage for event in seen.events())
    assert largest < 40 * fan_in * 8 * 4, "a hundredth of a square of the fan-in in float64 is 50 MB"


def test_a_width_that_is_called_sure_is_that_of_the_eigenvalues():
    torch.manual_seed(0)
    for rank in (10, 29, 31, 35):  # a square factor would be nearly singular by chance
        x = (torch.randn(1, 200, rank) @ torch.randn(rank, 40)).double()
        moments = Moments(200, (x.mT @ x) / 200, None, x.float(), None)
        assert moments.surely_wider(0, 0.75) == (rank > 30)
        assert span_of(moments, 0).rank == rank


def test_wide_layers_in_blocks_and_chunks_give_the_moments_of_all_patches():
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Linear(1100, 3)), torch.randn(2500, 1100)
    site = find_sites(net, images[:2])[0]
    moments = measure(net, net, site, list(images.split(30)), EVERYTHING)
    x = torch.cat([images, torch.ones(2500, 1)], 1).double()
    torch.testing.assert_close(moments.gram[0], x.mT @ x / 2500, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(moments.gram, moments.gram.mT)


def test_a_pivot_of_exactly_zero_is_no_positive_one():
    rounding = GRAM_ROUNDING[torch.float32]
    floor = rounding
    for _ in range(9):  # the shift itself: E[x̃x̃ᵀ] less it is exactly singular
        floor = rounding * float(torch.linalg.matrix_norm(torch.diag(torch.tensor([1.0, floor])).double()))
    gram = torch.diag(torch.tensor([1.0, floor], dtype=torch.float64))[None]
    moments = Moments(100, gram, None, torch.zeros(1, 10, 2), None)
    assert not moments.surely_wider(0, 0.75)
    assert moments.surely_wider(0, 0.4)
