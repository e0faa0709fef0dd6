"""Kept statistics as witnesses: zero where they are met, bounded where they are hit, and a help in settling."""

import copy
import math

import pytest
import torch
from torch import nn

from depurate.recovery import Repair, Surety, mend_contradicted, own_strains, settle, surety
from depurate.recovery.witness import Witness, images_at_once, listening
from depurate.spans import find_sites, read_kernels, write_kernels


def scores(output):
    return output


def network(seed=0, width=16):
    """Convolutions with normalisations whose statistics are those of the images, and the images."""
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, width, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 4),
    ).requires_grad_(False)
    for parameter in net.parameters():
        if parameter.ndim > 1:
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter[0].numel())
            )
    images = torch.randn(200, 2, 10, 10, generator=generator)
    for module in (net[1], net[4]):
        module.momentum = 1.0
    net.train()(images)
    return net.eval(), images


def strain(net, received, images):
    own, witness = listening(net, received)
    own(images)
    return float(witness.strain())


def test_a_network_that_meets_what_it_kept_has_no_strain_and_is_not_changed():
    net, images = network()
    before = copy.deepcopy(net.state_dict())
    assert strain(net, net, images) < 1e-3
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not net[1].training


def test_of_changed_colours_only_the_first_normalisation_knows():
    net, images = network()
    first, second = own_strains(net, [0.5 * images - 1])
    assert first.means > 16 < first.deviations
    assert second.means + second.deviations < 1
    assert own_strains(net, [images[:90], images[90:]]) == own_strains(net, [images])


def test_strains_of_all_normalisations_are_in_the_order_in_which_they_are_reached():
    class Reversed(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.BatchNorm1d(3), nn.BatchNorm1d(2)

        def forward(self, images):
            return self.last(self.first(images[:, :2]).repeat(1, 2)[:, :3])

    found = own_strains(Reversed().eval(), [torch.randn(50, 4) + 7])
    assert [strain.channels for strain in found] == [2, 3]
    assert found[0].means > found[1].means
    assert own_strains(nn.Sequential(nn.Linear(4, 2)), [torch.randn(50, 4)]) == ()
    assert own_strains(Reversed().eval(), [torch.randn(1, 4)]) == ()


def test_strain_is_its_formula():
    net = nn.Sequential(nn.BatchNorm1d(2)).eval()
    net[0].running_mean.copy_(torch.tensor([0.5, 0.0]))
    net[0].running_var.copy_(torch.tensor([4.0, 0.25]))
    images = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    mean, variance = images.mean(0), images.var(0)
    apart = [
        (mean - net[0].running_mean) / (net[0].running_var * (0.01 + 1 / 50)).sqrt(),
        (variance / net[0].running_var).log() / 2 / math.sqrt(0.15**2 + 1 / 50),
    ]
    expected = sum(4 * math.log1p(float(value) ** 2 / 8) for values in apart for value in values)
    assert strain(net, net, images) == pytest.approx(expected, rel=1e-4)


def test_one_hit_statistic_counts_little_however_far_it_is():
    net, images = network()
    hit = copy.deepcopy(net)
    hit[1].running_mean[3] = 9.0
    hit[4].running_var[2] = float("nan")
    hit[4].running_var[5] = -1.0
    assert 10 < strain(net, hit, images) < 100


def test_without_kept_statistics_nobody_bears_witness():
    assert listening(nn.Linear(2, 2), nn.Linear(2, 2)) is None
    bare = nn.Sequential(nn.BatchNorm1d(4, track_running_stats=False))
    assert listening(bare, bare) is None
    broken = nn.Sequential(nn.BatchNorm1d(4))
    broken[0].running_var.fill_(float("nan"))
    assert listening(broken, broken) is None


def test_as_many_images_at_once_as_memory_holds():
    heard = {"0": torch.zeros(2, 10_000_000 // 2)}
    witness = Witness({}, heard)
    assert images_at_once(nn.Identity(), witness, torch.zeros(2, 1)) == 20


def hurt(net, seed):
    """A tenth of both convolutions gone, and what a repair would say of it."""
    repairs, generator = {}, torch.Generator().manual_seed(seed)
    for name in ("0", "3"):
        clean = read_kernels(net.get_submodule(name))
        hits = torch.rand(clean.shape, generator=generator) < 0.1
        kernels = torch.where(hits, 0.0, clean)
        write_kernels(net.get_submodule(name), kernels)
        spread = torch.full_like(clean, float(clean.std()))
        repairs[name] = Repair(kernels, hits, hits.double(), 0.1, None, 1.0, 0, spread, kernels, kernels)
    return repairs


@pytest.mark.parametrize("seed", range(3))
def test_settling_meets_what_normalisations_kept(seed):
    clean, images = network(seed)
    net = copy.deepcopy(clean)
    repairs = hurt(net, seed)
    received, before = copy.deepcopy(net), strain(net, clean, images)
    assert list(settle(net, repairs, [*images.split(64)], scores, received)) == ["0", "3"]
    assert strain(net, clean, images) < 0.3 * before
    for name, repair in repairs.items():
        now = read_kernels(net.get_submodule(name))
        assert torch.equal(now[~repair.hits], repair.kernels[~repair.hits])
    # Nothing but what was to settle: statistics are renewed by who asked for it.
    assert torch.equal(net[1].running_mean, clean[1].running_mean)


def test_statistics_that_images_contradict_are_mended_and_no_others():
    net, images = network(width=40)
    hit = copy.deepcopy(net)
    hit[1].running_var[[3, 8]] = 0.0
    hit[4].running_mean[7] += 3 * hit[4].running_var[7].sqrt()
    sites = find_sites(hit, images[:2])
    found = mend_contradicted(hit, sites, [*images.split(64)])
    assert {name: mask.nonzero().tolist() for name, mask in found.items()} == {
        "1": [[1, 3], [1, 8]],
        "4": [[0, 7]],
    }
    assert torch.allclose(hit[1].running_var, net[1].running_var, rtol=1e-3)
    untouched = torch.arange(40) != 7
    assert torch.equal(hit[4].running_mean[untouched], net[4].running_mean[untouched])


def test_where_weights_are_hit_statistics_are_left():
    net, images = network(width=40)
    hurt(net, 0)
    net[1].running_var[[3, 8]] = 0.0
    before = net[1].running_var.clone()
    assert mend_contradicted(net, find_sites(net, images[:2]), [images]) == {}
    assert torch.equal(net[1].running_var, before)


def test_a_network_without_normalisations_has_nothing_to_mend():
    net, images = nn.Sequential(nn.Linear(2, 2)).requires_grad_(False), torch.zeros(4, 2)
    assert mend_contradicted(net, find_sites(net, images[:2]), [images]) == {}


def test_no_batch_is_too_small_for_its_own_statistics(monkeypatch):
    monkeypatch.setattr(surety, "images_at_once", lambda *_: 3)
    net = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2)).eval()
    sure = Surety.of(net, [torch.randn(7, 3)], scores, net)
    assert sorted(map(len, sure.batches)) == [2, 2, 3]
    assert math.isfinite(sure.cost({}))


def test_normalisations_that_nothing_reaches_say_nothing():
    net = nn.Sequential(nn.Linear(3, 2))
    net.register_module("unused", nn.BatchNorm1d(2))
    net.forward = lambda images: net[0](images)
    assert strain(net.eval(), net, torch.zeros(4, 3)) == 0
