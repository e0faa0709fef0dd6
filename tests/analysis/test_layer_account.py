"""The account of a layer against direct sums, and its guarantees."""

import copy
import json
import math

import pytest
import torch
from torch import nn

from depurate.analysis import describe
from depurate.recovery import Guarantee, Recipe, walk
from depurate.spans import find_sites


def account(net, images, recipe, anchor=None):
    suspect, purified = copy.deepcopy(net.eval()), copy.deepcopy(net)
    sites = find_sites(net, images[:2])
    outcomes = list(walk(suspect, purified, anchor or {}, sites, [images], recipe))
    return outcomes, [describe(outcome) for outcome in outcomes]


def dense(fan_in=6, kernels=3, count=60, rank=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(fan_in, kernels, bias=False)).double()
    width = rank or fan_in
    mixing = torch.randn(width, fan_in).double() * torch.logspace(0, -3, width).double()[:, None]
    return net, torch.randn(count, width).double() @ mixing


def test_numbers_of_a_soft_layer():
    net, images = dense()
    (outcome,), (record,) = account(net, images, Recipe("soft", 0.3))
    before, after = net[0].weight.detach(), outcome.purified[0]
    assert (record.name, record.kind, record.fan_in, record.kernels, record.patches) == (
        "0",
        "Linear",
        6,
        3,
        60,
    )
    assert (record.method, record.guarantee) == ("soft", Guarantee.APPROXIMATE)
    assert record.moved == pytest.approx(float((after - before).norm() / before.norm()))
    values, vectors = torch.linalg.eigh(images.mT @ images)
    shares = values.flip(0) / values.sum()
    leading = vectors.flip(1)[:, : int((shares.cumsum(0) < 0.99).sum()) + 1]
    inside = (before @ leading).square().sum() / before.square().sum()
    assert record.off_span == pytest.approx(float(1 - inside))
    assert record.spectrum.span == pytest.approx(shares.tolist())
    projected = (before @ vectors.flip(1)).square().sum(0)
    assert record.spectrum.suspect == pytest.approx((projected / projected.sum()).tolist())
    assert sum(record.spectrum.purified) == pytest.approx(1)
    histogram = record.residuals
    assert sum(histogram.counts) + histogram.zeros == 18
    taken = (after - before).abs()
    assert histogram.edges[0] == pytest.approx(float(taken.min()))
    assert histogram.edges[-1] == pytest.approx(float(taken.max()))


def test_long_spectra_are_binned_and_still_add_up():
    net, images = dense(fan_in=530, count=540)
    _, (record,) = account(net, images, Recipe("soft", 0.3))
    assert len(record.spectrum.span) <= 512
    assert sum(record.spectrum.span) == pytest.approx(1)
    assert sum(record.spectrum.suspect) == pytest.approx(1)


def test_guarantees():
    net, images = dense(fan_in=40, count=30, rank=4)
    generator = torch.Generator().manual_seed(1)
    clean = (torch.randn(3, 4, generator=generator).double() @ torch.linalg.svd(images).Vh[:4]).clone()
    with torch.no_grad():
        net[0].weight.copy_(clean)
        net[0].weight[:, 5] += 3
    recipe = Recipe("exact", None, rounding=1e-9)
    _, (exact,) = account(net, images, recipe)
    assert (exact.guarantee, exact.certified, exact.contaminated, exact.rank) == (Guarantee.EXACT, 3, 3, 4)
    assert exact.notes == ()
    with torch.no_grad():
        net[0].weight[1] = torch.randn(40, generator=generator)
    _, (partial,) = account(net, images, recipe)
    assert (partial.guarantee, partial.certified, partial.contaminated) == (Guarantee.PARTIAL, 2, 2)
    assert "1 of 3 kernels not certified" in partial.notes[0]
    with torch.no_grad():
        net[0].weight.normal_(generator=generator)
    _, (none,) = account(net, images, recipe)
    assert (none.guarantee, none.certified) == (Guarantee.NONE, 0)
    _, (left,) = account(net, images, Recipe("auto", None))
    assert (left.guarantee, left.method, left.moved) == (Guarantee.UNCHANGED, "none", 0)
    net, images = dense()
    _, (cut,) = account(net, images, recipe)
    assert cut.guarantee is Guarantee.APPROXIMATE
    assert "span all 6 directions" in cut.notes[0]


def test_thin_layers_and_frozen_layers_say_so():
    net, images = dense(fan_in=50, count=20)
    _, (record,) = account(net, images, Recipe("soft", 0.1))
    assert record.notes == (
        "only 20 benign patches for a fan-in of 50: directions they do not reach shrink to zero",
    )
    anchor = {"0.weight": net[0].weight.detach() + 0.1}
    _, (record,) = account(net, images, Recipe("soft", 0.1), anchor)
    assert record.notes[0].endswith("keep the anchor")
    _, (record,) = account(net, images, Recipe("soft", 0.1), {"0.weight": net[0].weight.detach()})
    assert record.notes == ("equal to the anchor: never trained, nothing to undo",)
    assert record.off_span is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e38, 1e300, -1e200])
@pytest.mark.parametrize("recipe", [Recipe("auto", None), Recipe("soft", 0.1)])
def test_the_account_of_damaged_layers_stays_finite(value, recipe):
    net, images = dense()
    with torch.no_grad():
        net[0].weight[0, 0] = value
    _, (record,) = account(net, images, recipe)
    json.dumps(record.spectrum.suspect, allow_nan=False)
    assert math.isfinite(record.moved)
    assert 0 <= record.off_span <= 1
    assert record.contaminated == 1
    assert record.nonfinite == (0 if math.isfinite(value) else 1)
    if record.nonfinite:
        assert "1 of 18 entries arrived as NaN or Inf" in record.notes[0]


@pytest.mark.parametrize("recipe", [Recipe("auto", None), Recipe("soft", 0.1)])
def test_silent_inputs_have_an_account(recipe):
    net, images = dense()
    _, (record,) = account(net, 0 * images, recipe)
    assert record.rank == 0


def test_statistics_are_accounted_for_by_what_happened_to_them():
    torch.manual_seed(0)
    net, images = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), torch.randn(50, 4)
    net[1].running_mean[0] = float("nan")
    _, (_, record) = account(net, images, Recipe("auto", None))
    assert (record.nonfinite, record.contaminated, record.guarantee) == (1, 1, Guarantee.APPROXIMATE)
    assert record.notes[0].startswith("1 of 8 running statistics arrived as NaN")
    assert record.notes[0].endswith("all others returned bit for bit")
    _, (_, record) = account(net, images, Recipe("soft", 0.1))
    assert record.notes[0].endswith("and so were all others")
    net[1].running_mean[0] = 0
    _, (_, record) = account(net, images, Recipe("soft", 0.1))
    assert record.notes == ("running statistics estimated anew on the benign images",)
    _, (_, record) = account(net, images, Recipe("auto", None))
    assert (record.guarantee, record.notes) == (Guarantee.UNCHANGED, ())


def test_bins_of_a_spectrum_cover_its_rank_and_not_the_fan_in():
    net, images = dense(fan_in=801, kernels=2, count=1000)
    images[:, 790:] = 0
    _, (record,) = account(net, images, Recipe("soft", 0.3))
    assert (record.fan_in, record.spectrum.directions, len(record.spectrum.span)) == (801, 790, 395)
    assert record.spectrum.ends()[:2] == [2, 4]
    assert record.spectrum.ends()[-1] == 790
