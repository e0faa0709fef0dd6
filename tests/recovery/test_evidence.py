"""What must not count for a certificate: what lost entries were filled with, zeros nobody knows of, odd biases."""

import copy

import pytest
import torch
from torch import nn

from depurate import InputError, purify
from depurate.recovery import Guarantee


def trained(*, bias_rate=1.0, weight_rate=1.0, steps=300, width=40, dead=0):
    """A network whose first layer moved within the span of thirty inputs, its anchor and the inputs."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(30, 200, generator=generator)
    labels = torch.randint(0, 3, (30,), generator=generator)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(200, width), nn.ReLU(), nn.Linear(width, 3))
    with torch.no_grad():
        net[0].bias[:dead] = -30
    anchor = copy.deepcopy(net.state_dict())
    groups = [
        {"params": [net[0].weight], "lr": 0.1 * weight_rate},
        {"params": [net[0].bias], "lr": 0.1 * bias_rate},
    ]
    descent = torch.optim.SGD(groups, lr=0.1)
    for _ in range(steps):
        descent.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        descent.step()
    return net.eval(), anchor, inputs


@torch.no_grad()
def off(found, clean):
    """Relative error of each kernel of the first layer, bias and all."""
    whole, true = (torch.cat([net[0].weight, net[0].bias[:, None]], 1).double() for net in (found, clean))
    return (whole - true).norm(dim=1) / true.norm(dim=1)


@pytest.mark.parametrize("method", ["exact", "auto"])
@pytest.mark.parametrize("value", [float("nan"), 1e30])
def test_a_kernel_that_is_lost_is_not_certified(method, value):
    clean, anchor, inputs = trained()
    hit = copy.deepcopy(clean)
    with torch.no_grad():
        hit[0].weight[5], hit[0].bias[5] = value, value
    result = purify(hit, inputs, anchor, method)
    assert result.record.guarantee is not Guarantee.EXACT
    assert result.layers[0].certified == 39
    assert int((off(result.model, clean) > 1e-4).sum()) == 1
    # What comes after it is nothing to judge by.
    assert torch.equal(result.model[2].weight, clean[2].weight)


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_what_is_lost_in_part_comes_back_from_the_rest(share):
    clean, anchor, inputs = trained()
    hit, generator = copy.deepcopy(clean), torch.Generator().manual_seed(3)
    with torch.no_grad():
        noisy = torch.rand(40, 200, generator=generator) < 0.1
        hit[0].weight[noisy] += torch.randn(int(noisy.sum()), generator=generator)
        hit[0].weight[torch.rand(40, 200, generator=generator) < share] = float("nan")
    result = purify(hit, inputs, anchor, "exact")
    wrong = int((off(result.model, clean) > 1e-4).sum())
    assert wrong == 0
    assert result.layers[0].certified == 40


@pytest.mark.parametrize(("rates", "method"), [((2, 1), "auto"), ((0, 1), "exact"), ((1, 0), "auto")])
def test_biases_with_a_rate_of_their_own_are_not_called_hit(rates, method):
    clean, anchor, inputs = trained(bias_rate=rates[0], weight_rate=rates[1])
    result = purify(clean, inputs, anchor, method)
    assert result.layers[0].certified == 0
    for name, value in clean.state_dict().items():
        assert torch.equal(result.model.state_dict()[name], value), name


@pytest.mark.parametrize("harm", ["dead", "lost", "column", "hit column"])
@pytest.mark.parametrize("rate", [0, 2])
def test_odd_biases_are_told_beside_dead_units_and_damage(harm, rate):
    clean, anchor, inputs = trained(bias_rate=rate, dead=5 if harm == "dead" else 0)
    hit, generator = copy.deepcopy(clean), torch.Generator().manual_seed(3)
    with torch.no_grad():
        if harm == "lost":
            hit[0].weight[torch.rand(40, 200, generator=generator) < 0.6] = float("nan")
        if harm == "column":
            hit[0].weight[:, 7] = float("nan")
        if harm == "hit column":
            hit[0].weight[:24, 7] += 1
    result = purify(hit, inputs, anchor, "exact")
    assert result.layers[0].certified == (5 if harm == "dead" else 0)
    assert torch.equal(result.model[0].bias, clean[0].bias)
    assert float(off(result.model, clean).max()) < 1e-4


@pytest.mark.parametrize("kernels", [3, 7])
def test_odd_biases_of_few_kernels_are_told_too(kernels):
    clean, anchor, inputs = trained(bias_rate=2, width=kernels)
    result = purify(clean, inputs, anchor, "exact")
    assert torch.equal(result.model[0].bias, clean[0].bias)
    # Units that never moved have biases that did not, either.
    assert result.layers[0].certified <= int((clean[0].bias == anchor["0.bias"]).sum())


def test_noise_beside_odd_biases_is_still_undone():
    clean, anchor, inputs = trained(bias_rate=2)
    hit, generator = copy.deepcopy(clean), torch.Generator().manual_seed(3)
    with torch.no_grad():
        hit[0].weight[torch.rand(40, 200, generator=generator) < 0.05] += 1
    result = purify(hit, inputs, anchor, "exact")
    assert torch.equal(result.model[0].bias, clean[0].bias)
    assert float(off(result.model, clean).max()) < 1e-4
    assert "biases of nearly all kernels" in result.layers[0].notes[0]


@pytest.mark.parametrize("method", ["exact", "auto"])
def test_a_pruned_network_without_an_anchor_is_left_alone(method):
    clean, _, inputs = trained()
    with torch.no_grad():
        sizes = clean[0].weight.abs()
        clean[0].weight[sizes <= sizes.flatten().kthvalue(int(0.9 * sizes.numel())).values] = 0
    result = purify(clean, inputs, None, method)
    assert result.layers[0].certified == 0
    if method == "auto":
        assert torch.equal(result.model[0].weight, clean[0].weight)


def test_kernels_that_read_as_zero_are_not_said_to_have_never_moved():
    generator = torch.Generator().manual_seed(1)
    inputs, labels = torch.randn(40, 300, generator=generator), torch.arange(40) % 10
    net = nn.Sequential(nn.Flatten(), nn.Linear(300, 10))
    for value in net.parameters():
        nn.init.zeros_(value)
    anchor = copy.deepcopy(net.state_dict())
    descent = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(100):
        descent.zero_grad()
        nn.functional.cross_entropy(net(inputs), labels).backward()
        descent.step()
    bias = net[1].bias.detach().clone()
    with torch.no_grad():
        net[1].weight[:3] = 0
    result = purify(net, inputs, anchor, "exact")
    assert result.layers[0].certified == 7
    assert torch.equal(result.model[1].bias, bias)
    assert any("hardly anything but zeros" in note for note in result.layers[0].notes)


def test_an_anchor_without_biases_is_refused():
    clean, anchor, inputs = trained(steps=1)
    weights = {name: value for name, value in anchor.items() if "weight" in name}
    with pytest.raises(InputError, match=r"0\.weight but no 0\.bias"):
        purify(clean, inputs, weights)


@pytest.mark.parametrize("flips", [0, 1])
def test_behind_a_layer_that_differs_from_its_anchor_unexplained_nothing_is_certified(flips):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(60, 1, 12, 12, generator=generator).double()
    labels = torch.randint(0, 3, (60,), generator=generator)
    net = nn.Sequential(
        nn.Conv2d(1, 256, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)
    ).double()
    anchor = copy.deepcopy(net.state_dict())
    descent = torch.optim.SGD(net[4].parameters(), lr=0.5)
    for _ in range(300):
        descent.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        descent.step()
    with torch.no_grad():
        net[0].weight[17 : 17 + flips, 0, 1, 1] *= -1
        noisy = torch.rand(10, 256, generator=generator) < 0.05
        net[4].weight[noisy] += 0.3 * torch.randn(int(noisy.sum()), generator=generator).double()
    result = purify(net, images, anchor)
    assert result.layers[1].certified == (0 if flips else 10)
