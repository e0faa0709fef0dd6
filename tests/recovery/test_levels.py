"""Rounding by layer, kernel and entry: what counts as zero in exact recovery, and what is certified of it."""

import pytest
import torch
from torch import nn

from depurate.purification import purify, rounding_of
from depurate.recovery import Recipe, Rounding, exact_recovery, rounding_for
from depurate.recovery.levels import solve_levelled
from depurate.spans import Span


def trained(dtype, *, dark=60, fan_in=200, kernels=40, count=10, steps=300, rate=0.3, seed=0):
    """A hidden layer trained by gradient descent on images with pixels that are always black, and its anchor."""
    draw = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(fan_in, kernels, bias=False), nn.ReLU(), nn.Linear(kernels, 3)).to(dtype)
    images = torch.randn(count, fan_in, generator=draw).to(dtype)
    images[:, :dark] = 0
    labels = torch.randint(0, 3, (count,), generator=draw)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    tuned = torch.optim.SGD(net[0].parameters(), lr=rate)
    for _ in range(steps):
        tuned.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        tuned.step()
    return net.eval(), start, images


def hit(net, share, scale, seed=1):
    draw = torch.Generator().manual_seed(seed)
    weight = net[0].weight.detach()
    clean, places = weight.clone(), torch.rand(weight.shape, generator=draw) < share
    weight[places] += scale * torch.randn(int(places.sum()), generator=draw).to(weight)
    return clean, places


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_sound_layer_with_dark_pixels_comes_back_bit_for_bit_and_certified(dtype):
    net, start, images = trained(dtype)
    before = net[0].weight.detach().clone()
    result = purify(net, images, start, "exact")
    assert torch.equal(result.model[0].weight, before)
    layer = result.layers[0]
    assert (layer.certified, layer.contaminated) == (layer.kernels, 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_noise_beside_dark_pixels_is_found_and_nothing_else_is_changed(dtype):
    net, start, images = trained(dtype)
    clean, places = hit(net, 0.1, 0.1)
    result = purify(net, images, start, "exact")
    found = result.model[0].weight.detach()
    assert torch.equal(found[~places], clean[~places])
    assert (found - clean).abs().max() < (1e-12 if dtype == torch.float64 else 1e-5)
    # A hit that is smaller than rounding is none.
    assert 0.99 * int(places.sum()) < result.layers[0].contaminated <= int(places.sum())
    assert result.layers[0].certified >= result.layers[0].kernels - 1


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3])
def test_small_updates_in_float32_are_certified_by_the_size_of_their_weights(share):
    """Weights move by 1e-3 of their size and carry rounding of their size: more than 1e-5 of what they moved."""
    net, start, images = trained(torch.float32, dark=0, steps=100, rate=1e-4)
    clean, _ = hit(net, share, 0.1)
    moved = (clean - start["0.weight"]).double().norm(dim=1)
    layer = purify(net, images, start, "exact").layers[0]
    assert float((moved / clean.double().norm(dim=1)).median()) < 5e-3
    assert layer.certified >= 0.8 * layer.kernels


@pytest.mark.parametrize("scale", [1e-1, 1e-3, 1e-4, 1e-5])
def test_what_is_certified_in_float32_is_off_by_no_more_than_a_thousandth_of_the_update(scale):
    net, start, images = trained(torch.float32, dark=0, steps=1000, rate=1e-3)
    clean, _ = hit(net, 0.3, scale)
    span = Span(torch.linalg.qr(images.double().T).Q, torch.full((10,), 0.1).double())
    anchor, suspect = start["0.weight"], net[0].weight.detach()
    fit = exact_recovery(span, suspect, anchor, rounding_for(torch.float32))
    off = (fit.kernels - clean).double().norm(dim=1) / (clean - anchor).double().norm(dim=1)
    assert bool((off[fit.certified] < 1e-3).all())


def test_a_coarse_tensor_elsewhere_changes_nothing_for_a_fine_layer():
    net, start, images = trained(torch.float32)
    clean, places = hit(net, 0.3, 1e-3)
    state = {**net.state_dict(), "2.weight": net[2].weight.detach().bfloat16()}
    found = purify(net, images, start, "exact", rounding=rounding_of(state, start))
    plain = purify(net, images, start, "exact")
    assert torch.equal(found.model[0].weight, plain.model[0].weight)
    off = (found.model[0].weight - clean).double().norm() / (clean - start["0.weight"]).double().norm()
    assert off < 1e-3
    assert found.layers[0].contaminated > 0.8 * int(places.sum())


def test_a_layer_takes_the_coarser_of_its_own_rounding_and_its_anchors():
    suspect = {"a.weight": torch.zeros(2, 2), "b.weight": torch.zeros(2, 2), "steps": torch.tensor(3)}
    found = rounding_of(suspect, {"b.weight": torch.zeros(2, 2).half()}, None)
    recipe = Recipe("exact", None, rounding=found)
    assert recipe.rounding_on("a") == rounding_for(torch.float32)
    assert recipe.rounding_on("b") == rounding_for(torch.float16)
    assert recipe.rounding_on("tied") == rounding_for(torch.float16)


def test_the_rounding_of_a_parametrised_weight_is_found_below_its_layer():
    net = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 2)).double(), nn.Linear(2, 2).half()
    )
    recipe = Recipe("exact", None, rounding=rounding_of(net))
    assert recipe.rounding_on("0") == rounding_for(torch.float64)
    assert recipe.rounding_on("1") == rounding_for(torch.float16)


def test_rounding_beyond_the_coarsest_certifies_nothing():
    """Errors of a hundredth of the update, where a thousandth is the most: no accident may pass for a proof."""
    draw = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(*shape, generator=draw).double()  # noqa: E731
    span = Span(torch.linalg.qr(normal(300, 20)).Q, torch.full((20,), 0.05).double())
    clean = normal(30, 20) @ span.directions.T
    suspect = clean + 3e-3 * clean.std() * normal(30, 300)
    fit = exact_recovery(span, suspect, torch.zeros_like(clean), Rounding(1e-5, 6e-5, 1e-3))
    assert not fit.certified.any()


def test_a_kernel_that_did_not_move_stays_and_one_lost_to_nothing_is_no_error():
    design = torch.zeros(5, 2).double()
    found = solve_levelled(
        design, torch.ones(5, 3).double(), torch.ones(5, 3).double(), rounding_for(torch.float64)
    )
    assert bool((found.solution.residuals == 1).all())


@pytest.mark.parametrize("scale", [1e-3, 1e-5])
def test_what_the_rest_sees_only_faintly_is_certified_no_further_than_promised(scale):
    """A bias that was lost hangs on inputs of next to no size: errors of what is met grow by as much there."""
    worst, given = 0.0, 0
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.cat([torch.randn(9, 4, generator=generator) * scale, torch.ones(1, 4)]).double()
        directions = torch.linalg.qr(inputs).Q
        anchor = torch.randn(40, 10, generator=generator) * 0.1
        clean = (anchor.double() + torch.randn(40, 4, generator=generator).double() @ inputs.T).float()
        suspect, lost = clean.clone(), torch.zeros(40, 10, dtype=torch.bool)
        suspect[:30, 9] += 1
        lost[:20, 9] = True
        span = Span(directions, torch.full((4,), 0.25).double())
        fit = exact_recovery(span, suspect, anchor, rounding_for(torch.float32), lost=lost)
        off = (fit.kernels - clean).double().norm(dim=1) / (clean - anchor).double().norm(dim=1)
        worst, given = (
            max(worst, float(off[fit.certified].max())),
            given + int(fit.certified[:30].sum()),
        )
    assert worst < 1e-3
    assert given > 0
