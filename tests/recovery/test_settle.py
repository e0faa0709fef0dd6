"""Settling: hit entries chosen together for sure answers, everything else bit for bit."""

import pytest
import torch
from torch import nn

from depurate.recovery import Repair, settle
from depurate.spans import read_kernels, write_kernels


def scores(output):
    return output


def classes(count=300, seed=0):
    """Points around ten directions, and the classes they belong to."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(10, 40, generator=generator)
    labels = torch.randint(10, (count,), generator=generator)
    return directions, directions[labels] + torch.randn(count, 40, generator=generator), labels


def hurt(model, name, share, size, seed):
    """Leave errors of a known size on a share of a layer's entries, and say so as a repair does."""
    clean = read_kernels(model.get_submodule(name))
    generator = torch.Generator().manual_seed(seed)
    hits = torch.rand(clean.shape, generator=generator) < share
    spread = size * clean.std() * hits
    write_kernels(model.get_submodule(name), clean + spread * torch.randn(clean.shape, generator=generator))
    kernels = read_kernels(model.get_submodule(name))
    return Repair(kernels, hits, hits.double(), share, 1.0, 1.0, 0, spread)


def network():
    directions, images, labels = classes()
    net = nn.Sequential(nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 10)).requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    net[0].weight.copy_(torch.randn(60, 40, generator=generator) / 40**0.5)
    net[0].bias.zero_()
    features, wanted = net[:2](directions), 8 * torch.eye(10) - 4
    bordered = torch.cat([features, torch.ones(10, 1)], 1)
    fit = (torch.linalg.pinv(bordered) @ wanted).mT
    net[2].weight.copy_(fit[:, :-1])
    net[2].bias.copy_(fit[:, -1])
    return net.eval(), images, labels


def right(net, images, labels):
    return float((net(images).argmax(1) == labels).double().mean())


@pytest.mark.parametrize("seed", range(3))
def test_settling_wins_back_accuracy_without_labels_and_moves_only_hits(seed):
    net, images, labels = network()
    repairs = {name: hurt(net, name, 0.3, 1.2, seed) for name in ("0", "2")}
    received = {name: read_kernels(net.get_submodule(name)) for name in repairs}
    before = right(net, images, labels)
    assert settle(net, repairs, [*images.split(64)], scores) == ("0", "2")
    assert right(net, images, labels) > before + 0.05
    for name, repair in repairs.items():
        now = read_kernels(net.get_submodule(name))
        assert torch.equal(now[~repair.hits], received[name][~repair.hits])
        # Within what the layer leaves open: no entry far out of its spread.
        assert ((now - received[name])[repair.hits].abs() < 5 * repair.spread[repair.hits]).all()


def test_batches_do_not_matter():
    found = []
    for size in (300, 70):
        net, images, _ = network()
        settle(net, {"2": hurt(net, "2", 0.3, 1.0, 1)}, [*images.split(size)], scores)
        found.append(net[2].weight.clone())
    assert torch.allclose(*found, atol=2e-2 * float(found[0].std()))


def test_nothing_open_means_nothing_moves():
    net, images, _ = network()
    repair = hurt(net, "0", 0.3, 0.0, 1)
    before = read_kernels(net[0])
    assert settle(net, {"0": repair}, [images], scores) == ()
    assert torch.equal(read_kernels(net[0]), before)


def test_a_network_without_finite_answers_is_left_alone():
    net, images, _ = network()
    repair = hurt(net, "0", 0.3, 1.0, 1)
    net[2].bias.fill_(float("nan"))
    before = read_kernels(net[0])
    assert settle(net, {"0": repair}, [images], scores) == ()
    assert torch.equal(read_kernels(net[0]), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_do_not_become_all_alike(dtype):
    net, images, _ = network()
    net, images = net.to(dtype), images.to(dtype)
    repair = hurt(net, "2", 1.0, 3.0, 1)
    answers = len(net(images).argmax(1).unique())
    settle(net, {"2": repair}, [images], scores)
    assert len(net(images).argmax(1).unique()) >= answers - 1
