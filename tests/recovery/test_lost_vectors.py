"""Scales and shifts lost as a whole: doubted by their numbers, decided by what was kept of training."""

import copy

import pytest
import torch
from torch import nn

from depurate import purify
from depurate.recovery import doubted_vectors, lost_vectors, repair_scales

WIDTH, BLOCKS = 16, 9


def trained():
    """Blocks whose normalisations kept what they were shown, the first with shifts that vary by nature."""
    torch.manual_seed(0)
    layers = []
    for place in range(BLOCKS):
        norm = nn.BatchNorm2d(WIDTH, momentum=None)
        norm.weight.data.normal_(0.5, 0.08)
        norm.bias.data.normal_(0.0, 0.5 if place == 0 else 0.08)
        layers += [nn.Conv2d(3 if place == 0 else WIDTH, WIDTH, 3, padding=1, bias=False), norm, nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, 5)).train()
    net[-1].weight.data.mul_(40)
    with torch.no_grad():
        net(pictures(400))
    return net.eval().requires_grad_(False)


def pictures(n=100):
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(n, 3, 3, 3, generator=generator)
    return nn.functional.interpolate(coarse, size=(9, 9), mode="bilinear")


def hit(net, name, column):
    """A copy in which one vector is noise."""
    net = copy.deepcopy(net)
    vector = (net.get_submodule(name).weight, net.get_submodule(name).bias)[column]
    vector += torch.randn(WIDTH, generator=torch.Generator().manual_seed(5))
    return net


def scores(found):
    return found


@pytest.mark.parametrize(("name", "column"), [("7", 0), ("10", 1), ("22", 1)])
def test_a_lost_vector_is_told_from_one_that_varies_by_nature(name, column):
    suspect = hit(trained(), name, column)
    doubted = doubted_vectors(suspect, {})
    assert {("1", 1), (name, column)} <= set(doubted)
    assert lost_vectors(suspect, doubted, [pictures()], scores, suspect) == {(name, column)}


def test_nothing_is_lost_in_a_good_network_or_where_nothing_was_kept():
    net = trained()
    assert ("1", 1) in doubted_vectors(net, {})
    assert not lost_vectors(net, doubted_vectors(net, {}), [pictures()], scores, net)
    suspect = hit(net, "7", 0)
    for module in suspect.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = module.running_var = None
    assert not lost_vectors(suspect, doubted_vectors(suspect, {}), [pictures()], scores, suspect)


def test_few_vectors_say_nothing_of_what_is_usual():
    assert not doubted_vectors(hit(trained(), "7", 0)[:21], {})


def test_a_lost_vector_takes_what_the_others_have_with_an_anchor_and_without():
    suspect = hit(trained(), "7", 0)
    origin = {f"{3 * place + 1}.weight": torch.ones(WIDTH) for place in range(BLOCKS)}
    for anchor in ({}, origin):
        repair = repair_scales(suspect, anchor, {("7", 0)})["7"]
        assert repair.hits[0, :, 0].all()
        assert not repair.hits[0, :, 1].any()
        assert (repair.kernels[0, :, 0] - 0.5).abs().max() < 0.1
        assert (repair.spread[0, :, 0] - 0.08).abs().max() < 0.08


def test_purify_replaces_it_and_says_so():
    suspect = hit(trained(), "10", 1)
    generator = torch.Generator().manual_seed(1)
    for place in range(0, 3 * BLOCKS, 3):
        weight = suspect[place].weight
        at = torch.rand(weight.shape, generator=generator) < 0.05
        weight[at] += 10 * weight.std() * torch.randn(weight.shape, generator=generator)[at]
    record = purify(suspect, pictures(), method="robust").record
    assert {guess.name: guess.hit for guess in record.guessed}["10.bias"] == WIDTH
