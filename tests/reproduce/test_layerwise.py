"""The paper's recovery on a deep network: exact where a layer has room, nothing where the span is everything."""

import copy

import pytest
import torch
from torch import nn

from depurate.reproduce.cifar.damages import NOISES, _damaged
from depurate.reproduce.cifar.layerwise import recover_layers
from depurate.reproduce.cifar.networks import kind_of


def two_layers(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 6)).double()


def test_a_layer_with_room_is_recovered_and_one_without_comes_back_as_it_was():
    anchor = two_layers(0)
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clean = copy.deepcopy(anchor)
    with torch.no_grad():
        clean[0].weight += 0.05 * torch.randn_like(clean[0].weight)
        amounts = 0.1 * torch.randn(6, 12, dtype=torch.float64)
        clean[3].weight += amounts @ clean[:3](images)
        clean[3].bias += amounts.sum(1)
    hit = copy.deepcopy(clean)
    with torch.no_grad():
        hit[3].weight += torch.randn_like(hit[3].weight) * (torch.rand_like(hit[3].weight) < 0.2)
    received = copy.deepcopy(hit.state_dict())
    found, room, layers = recover_layers(hit, images.split(4), anchor)
    assert (room, layers) == (1, 2)
    torch.testing.assert_close(found[0].weight, clean[0].weight, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found[3].weight, clean[3].weight, rtol=1e-9, atol=1e-12)
    assert all(torch.equal(value, received[key]) for key, value in hit.state_dict().items())


@pytest.mark.parametrize("value", [1e30, float("inf")])
def test_plain_damage_is_left_where_the_span_is_everything(value):
    """The paper's method has no other means: what depurate fills by itself must not be credited to it."""
    anchor = two_layers(0)
    hit = copy.deepcopy(anchor)
    with torch.no_grad():
        hit[0].weight[0, 0, 0, 0] = value
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, _, _ = recover_layers(hit, images.split(4), anchor)
    assert torch.equal(found[0].weight, hit[0].weight)


def test_every_noise_changes_weights_and_leaves_the_network_it_was_given():
    torch.manual_seed(2)
    model = kind_of("lenet").build().eval()
    before = copy.deepcopy(model.state_dict())
    for name, spec in NOISES.items():
        damaged = _damaged(model, spec, seed=0)
        changed = any(
            not torch.equal(a, b) for a, b in zip(damaged.parameters(), model.parameters(), strict=True)
        )
        assert changed == bool(spec), name
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
