"""Scales and shifts of normalisations: hit ones are found by their numbers, healthy networks are not looked at."""

import pytest
import torch
from torch import nn

from depurate.recovery import repair_scales


def normalised(kind=nn.BatchNorm2d, layers=6, channels=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(*(kind(channels) for _ in range(layers))).requires_grad_(False)
    for place, layer in enumerate(net):
        layer.weight.copy_(1 + (0.05 + 0.03 * place) * torch.randn(channels, generator=generator))
        layer.bias.copy_(0.2 * torch.randn(channels, generator=generator) - 0.1)
    return net


def hit(net, rate=0.1, scale=10.0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for name, parameter in net.named_parameters():
        mask = torch.rand(parameter.shape, generator=generator) < rate
        parameter += scale * parameter.std() * mask * torch.randn(parameter.shape, generator=generator)
        masks[name] = mask
    return masks


@pytest.mark.parametrize("kind", [nn.BatchNorm2d, lambda width: nn.GroupNorm(4, width), nn.LayerNorm])
@pytest.mark.parametrize("seed", range(3))
def test_hits_are_found_and_filled_with_what_is_usual(kind, seed):
    clean, net = normalised(kind, seed=seed), normalised(kind, seed=seed)
    masks = hit(net, seed=seed + 10)
    found = right = large = seen = 0
    for name, repair in repair_scales(net, {}).items():
        truth = torch.stack([masks[f"{name}.weight"], masks[f"{name}.bias"]], 1)[None]
        before = torch.stack([clean.get_parameter(f"{name}.{part}") for part in ("weight", "bias")], 1)[None]
        assert torch.equal(repair.kernels[~repair.hits], repair.received[~repair.hits])
        far = (repair.received - before).abs() > 6 * before.std(1, keepdim=True)
        found, right = found + int(repair.hits.sum()), right + int((repair.hits & truth).sum())
        large, seen = large + int(far.sum()), seen + int((far & repair.hits).sum())
        assert ((repair.kernels - before).abs()[repair.hits] < 1.5).all()
    assert right > 0.75 * found
    assert seen >= 0.95 * large > 0


def test_an_anchor_shows_what_its_own_spread_hides():
    base, net = normalised(seed=3), normalised(seed=3)
    generator = torch.Generator().manual_seed(4)
    for parameter in net.parameters():
        parameter += 0.002 * torch.randn(parameter.shape, generator=generator)
    net[2].weight[5] += 0.05
    assert not bool(repair_scales(net, {})["2"].hits[0, 5, 0])
    repair = repair_scales(net, base.state_dict())["2"]
    assert bool(repair.hits[0, 5, 0])
    assert float(repair.kernels[0, 5, 0] - base[2].weight[5]) == pytest.approx(0, abs=0.01)


def test_scales_without_shifts_and_what_is_no_vector_of_many():
    net = nn.Sequential(
        nn.RMSNorm(16), nn.LayerNorm((4, 4)), nn.BatchNorm1d(4), nn.BatchNorm1d(20, affine=False)
    )
    with torch.no_grad():
        net[0].weight.add_(0.1 * torch.randn(16, generator=torch.Generator().manual_seed(0)))[3] = 40
    repairs = repair_scales(net, {})
    assert list(repairs) == ["0"]
    assert repairs["0"].hits.nonzero().tolist() == [[0, 3, 0]]


def test_what_was_never_trained_is_left_alone():
    assert repair_scales(nn.Sequential(nn.BatchNorm2d(16)), {}) == {}
    assert repair_scales(nn.Sequential(nn.Linear(2, 2)), {}) == {}


def test_what_was_never_trained_and_hit_goes_back_to_what_all_others_have():
    net = nn.Sequential(nn.BatchNorm2d(16), nn.LayerNorm(30))
    with torch.no_grad():
        net[0].weight[3], net[1].bias[7] = 4.0, -0.5
    repairs = repair_scales(net, {})
    assert repairs["0"].hits.nonzero().tolist() == [[0, 3, 0]]
    assert repairs["1"].hits.nonzero().tolist() == [[0, 7, 1]]
    assert torch.equal(repairs["0"].kernels[0, :, 0], torch.ones(16))
    assert torch.equal(repairs["1"].kernels[0, :, 1], torch.zeros(30))


def test_what_is_stuck_at_one_number_is_found_wherever_it_lies():
    clean, net = normalised(), normalised()
    generator = torch.Generator().manual_seed(9)
    for parameter in net.parameters():
        parameter[torch.rand(parameter.shape, generator=generator) < 0.1] = 0.0
    repairs = repair_scales(net, {})
    for name, repair in repairs.items():
        stuck = torch.stack([net.get_submodule(name).weight == 0, net.get_submodule(name).bias == 0], 1)
        alone = stuck & ~stuck.all(1, keepdim=True)  # a channel of nothing but zeros may be pruned
        assert bool(repair.hits[0][alone].all())
    assert sum(int(repair.hits.sum()) for repair in repairs.values()) < 60
    assert not any(bool((repair.probability == 1).any()) for repair in repair_scales(clean, {}).values())
