"""Settling: hit entries chosen together for sure answers, everything else bit for bit."""

import sys
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.distributions import Bernoulli, kl_divergence

from depurate.recovery import Repair, Surety, settle, weigh, weighing
from depurate.recovery.mixture import HitModel
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
    spread = torch.full_like(clean, size * float(clean.std()))
    likely = clean + spread * torch.randn(clean.shape, generator=generator)
    kernels = torch.where(hits, likely, clean)
    write_kernels(model.get_submodule(name), kernels)
    return Repair(kernels, hits, hits.double(), share, 1.0, 1.0, 0, spread, likely, clean)


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
    assert list(settle(net, repairs, [*images.split(64)], scores)) == ["0", "2"]
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
    assert settle(net, {"0": repair}, [images], scores) == {}
    assert torch.equal(read_kernels(net[0]), before)


def test_where_weighing_takes_nothing_for_hit_any_more_nothing_moves(monkeypatch):
    net, images, _ = network()
    repair = hurt(net, "0", 0.1, 1.0, 3)
    freed = replace(repair, hits=torch.zeros_like(repair.hits), kernels=repair.received)
    monkeypatch.setattr(sys.modules[settle.__module__], "weigh", lambda *_: {"0": freed})
    assert not settle(net, {"0": repair}, [images], scores)["0"].hits.any()
    assert torch.equal(read_kernels(net[0]), repair.received)


def test_a_network_without_finite_answers_is_left_alone():
    net, images, _ = network()
    repair = hurt(net, "0", 0.3, 1.0, 1)
    net[2].bias.fill_(float("nan"))
    before = read_kernels(net[0])
    assert settle(net, {"0": repair}, [images], scores) == {}
    assert torch.equal(read_kernels(net[0]), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_do_not_become_all_alike(dtype):
    net, images, _ = network()
    net, images = net.to(dtype), images.to(dtype)
    repair = hurt(net, "2", 1.0, 3.0, 1)
    answers = len(net(images).argmax(1).unique())
    settle(net, {"2": repair}, [images], scores)
    assert len(net(images).argmax(1).unique()) >= answers - 1


def doubtful(model, name, seed, share=0.3, spread=1.2, size=3.0):
    """Hit a share of a layer's entries and say of each what its estimate, known up to `spread`, gives away."""
    clean, generator = read_kernels(model.get_submodule(name)), torch.Generator().manual_seed(seed)
    hit, noise, scale = torch.rand(clean.shape, generator=generator) < share, size * clean.std(), clean.std()
    received = clean + hit * noise * torch.randn(clean.shape, generator=generator)
    likely = clean + spread * scale * torch.randn(clean.shape, generator=generator)
    scales = torch.full_like(clean, spread * float(scale))
    model_of_hits = HitModel(share, float(noise), 1.0, 1.5, 0.01)
    probability = model_of_hits.posterior(received - likely, scales)
    called = probability > 0.5
    kernels = torch.where(called, likely, received)
    write_kernels(model.get_submodule(name), kernels)
    return Repair(kernels, called, probability, share, 1.0, 1.0, 0, scales, likely, received)


def test_settling_with_doubt_wins_back_more_than_with_hits_as_given():
    for seed in range(3):
        gained = []
        for doubt in (True, False):
            net, images, labels = network()
            repairs = {name: doubtful(net, name, seed) for name in ("0", "2")}
            if not doubt:
                repairs = {
                    name: replace(repair, probability=repair.hits.double())
                    for name, repair in repairs.items()
                }
            settle(net, repairs, [images], scores)
            gained.append(right(net, images, labels))
        assert gained[0] > gained[1]


def test_weighing_fills_hits_with_what_is_likely_and_leaves_all_else_as_received():
    net, images, _ = network()
    repairs = {name: doubtful(net, name, 0) for name in ("0", "2")}
    found = weigh(repairs, Surety.of(net, [images], scores))
    for name, repair in repairs.items():
        changed = found[name].hits != repair.hits
        assert changed.any()
        assert (repair.probability[changed] - 0.5).abs().max() < 0.499
        assert torch.equal(found[name].kernels[~found[name].hits], repair.received[~found[name].hits])
        assert torch.equal(found[name].kernels[found[name].hits], repair.likely[found[name].hits])


def test_what_is_sure_stays():
    net, images, _ = network()
    repair = doubtful(net, "2", 0)
    certain = replace(repair, probability=repair.hits.double())
    found = weigh({"2": certain}, Surety.of(net, [images], scores))["2"]
    assert torch.equal(found.hits, repair.hits)
    assert torch.equal(found.kernels, repair.kernels)


def test_entries_that_are_no_numbers_are_hit_and_never_read():
    net, images, _ = network()
    repair = doubtful(net, "2", 0)
    received, probability, hits = repair.received.clone(), repair.probability.clone(), repair.hits.clone()
    received[0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    probability[0, 0, :3], hits[0, 0, :3] = 1.0, True
    kernels = torch.where(hits, repair.likely, received)
    write_kernels(net[2], kernels)
    damaged = replace(repair, kernels=kernels, hits=hits, probability=probability, received=received)
    found = weigh({"2": damaged}, Surety.of(net, [images], scores))["2"]
    assert found.hits[0, 0, :3].all()
    assert found.kernels.isfinite().all()


def test_of_very_many_the_most_doubtful_are_weighed(monkeypatch):
    monkeypatch.setattr(weighing, "_MOST", 50)
    net, images, _ = network()
    repair = doubtful(net, "2", 0)
    found = weigh({"2": repair}, Surety.of(net, [images], scores))["2"]
    doubt = torch.minimum(repair.probability, 1 - repair.probability)
    changed = found.hits != repair.hits
    assert 0 < int(changed.sum()) < 50
    assert doubt[changed].min() > doubt.flatten().topk(50).values[-1]


@settings(max_examples=50, deadline=None)
@given(st.floats(0.002, 0.998), st.floats(-6, 6))
def test_strain_is_the_divergence_of_gates_from_beliefs(belief, tilt):
    believed = torch.tensor([belief], dtype=torch.float64)
    moved, tilted = torch.tensor([0.7], dtype=torch.float64), torch.tensor([tilt], dtype=torch.float64)
    entry, open_ = torch.zeros(1, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.bool)
    layer = weighing._Doubtful("", entry, entry, entry, believed, ~open_, open_, open_, moved, tilted)
    gate = torch.sigmoid(believed.logit() + tilted)
    wanted = kl_divergence(Bernoulli(gate), Bernoulli(believed)) + 0.5 * 0.7**2
    assert torch.allclose(layer.strain(), wanted, rtol=1e-6, atol=1e-9)
