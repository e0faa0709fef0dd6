"""The walk over whole networks: order, what is left alone, damage inside, statistics."""

import copy

import pytest
import torch
from torch import nn

from depurate.recovery import Recipe, walk
from depurate.spans import find_sites

NAN = float("nan")


def walked(net, images, recipe, anchor=None):
    net = net.eval()
    suspect, purified = copy.deepcopy(net), copy.deepcopy(net)
    sites = find_sites(net, images[:2])
    outcomes = list(walk(suspect, purified, anchor or {}, sites, list(images.split(32)), recipe))
    return suspect, purified, {outcome.site.name: outcome for outcome in outcomes}


def small():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    )
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    return net, torch.randn(120, 1, 6, 6)


def test_without_a_strength_an_undamaged_network_stays_bit_for_bit():
    net, images = small()
    _, purified, outcomes = walked(net, images, Recipe("soft", None))
    assert {outcome.method for outcome in outcomes.values()} == {"none"}
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in purified.state_dict().items())


def test_only_hit_entries_change_without_a_strength():
    net, images = small()
    hit = copy.deepcopy(net)
    with torch.no_grad():
        hit[0].weight[1, 0, 1, 1] = NAN
        hit[1].running_mean[2] = NAN
        hit[1].running_var[3] = -1
        hit[4].weight[0, :3] = 1e38
        hit[4].bias[1] = -float("inf")
    suspect, purified, outcomes = walked(hit, images, Recipe("auto", None))
    assert [outcome.method for outcome in outcomes.values()] == ["filled", "statistics", "filled"]
    assert [int(outcome.hits.sum()) for outcome in outcomes.values()] == [1, 2, 4]
    for network in (suspect, purified):
        for name, value in network.state_dict().items():
            before = hit.state_dict()[name]
            changed = value != before
            assert bool(value.isfinite().all()), name
            assert int(changed.sum()) == {
                "0.weight": 1,
                "1.running_mean": 1,
                "1.running_var": 1,
                "4.weight": 3,
                "4.bias": 1,
            }.get(name, 0)


def test_soft_statistics_of_a_damaged_norm_do_not_replace_the_suspects_good_ones():
    net, images = small()
    net[1].running_mean[2] = NAN
    suspect, purified, _ = walked(net, images, Recipe("soft", 0.3))
    kept = torch.tensor([True, True, False, True])
    assert torch.equal(suspect[1].running_mean[kept], net[1].running_mean[kept])
    assert torch.equal(suspect[1].running_var, net[1].running_var)
    assert not torch.equal(purified[1].running_mean[kept], net[1].running_mean[kept])


def test_a_damaged_layer_used_twice_is_filled():
    torch.manual_seed(0)
    layer = nn.Linear(6, 6)
    net = nn.Sequential(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 2))
    with torch.no_grad():
        layer.weight[0, 0] = NAN
    for recipe in (Recipe("auto", None), Recipe("soft", 0.1)):
        _, purified, _ = walked(net, torch.randn(60, 6), recipe)
        assert bool(purified(torch.randn(5, 6)).isfinite().all())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("method", ["soft", "auto", "exact"])
def test_a_layer_that_benign_images_never_wake_is_survived(method, bias):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 4, bias=bias), nn.Linear(4, 2))
    with torch.no_grad():
        net[0].bias.fill_(-100.0)
        net[2].weight[0, 0] = NAN
    strength = None if method == "exact" else 0.1
    _, purified, outcomes = walked(net.double(), torch.randn(40, 5).double(), Recipe(method, strength))
    assert all(bool(value.isfinite().all()) for value in purified.state_dict().values())
    assert list(outcomes) == ["0", "2", "3"]


def test_a_layer_equal_to_its_anchor_is_left_alone():
    net, images = small()
    anchor = {"4.weight": net[4].weight.detach().clone(), "4.bias": net[4].bias.detach().clone()}
    _, purified, outcomes = walked(net, images, Recipe("soft", 0.5), anchor)
    assert outcomes["4"].method == "none"
    assert outcomes["4"].anchored
    assert torch.equal(purified[4].weight, net[4].weight)
    assert outcomes["0"].method == "soft"
    assert not outcomes["0"].anchored


def test_statistics_follow_the_layers_before_them():
    net, images = small()
    _, purified, outcomes = walked(net, images, Recipe("soft", 0.5))
    seen = purified[0](images).detach().double()
    assert outcomes["1"].method == "statistics"
    torch.testing.assert_close(purified[1].running_mean.double(), seen.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(purified[1].running_var.double(), seen.var((0, 2, 3)), atol=1e-5, rtol=1e-4)


def test_groups_are_recovered_independently():
    torch.manual_seed(0)
    grouped = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2)).double()
    images = torch.randn(50, 4, 5, 5).double()
    _, both, _ = walked(grouped, images, Recipe("soft", 0.1))
    for group in range(2):
        single = nn.Sequential(nn.Conv2d(2, 3, 3)).double()
        with torch.no_grad():
            single[0].weight.copy_(grouped[0].weight[3 * group : 3 * group + 3])
            single[0].bias.copy_(grouped[0].bias[3 * group : 3 * group + 3])
        _, alone, _ = walked(single, images[:, 2 * group : 2 * group + 2], Recipe("soft", 0.1))
        torch.testing.assert_close(both[0].weight[3 * group : 3 * group + 3], alone[0].weight)
        torch.testing.assert_close(both[0].bias[3 * group : 3 * group + 3], alone[0].bias)


def test_an_anchor_without_the_bias_counts_it_as_zero():
    net, images = small()
    anchor = {"4.weight": net[4].weight.detach() + 0.1}
    _, _, outcomes = walked(net, images, Recipe("soft", 0.5), anchor)
    torch.testing.assert_close(outcomes["4"].anchor[0, :, :-1], anchor["4.weight"])
    assert bool((outcomes["4"].anchor[..., -1] == 0).all())


def test_exact_on_a_span_that_is_everything_certifies_nothing():
    net, images = small()
    _, _, outcomes = walked(net.double(), images.double(), Recipe("exact", None, rounding=1e-11))
    for name in ("0", "4"):
        assert outcomes[name].truncated
        assert not any(bool(fit.certified.any()) for fit in outcomes[name].fits)
        assert not outcomes[name].hits.any()
