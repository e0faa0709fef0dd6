"""Damage in parameters that no layer's recovery covers, and what it means for the layers behind it."""

import copy

import pytest
import torch
from torch import nn

from depurate import Guarantee, InputError, purify
from depurate.recovery import Guessed
from depurate.report.verdict import judge

NAN = float("nan")


def learnt_behind_a_normalisation():
    """A dense layer whose update lies in the span of 20 images, as a LayerNorm before it makes them."""
    torch.manual_seed(0)
    images = torch.randn(20, 1, 14, 14)
    anchor = nn.Sequential(nn.Flatten(), nn.LayerNorm(196), nn.Linear(196, 16, bias=False))
    net = copy.deepcopy(anchor)
    with torch.no_grad():
        net[1].bias.normal_(0, 0.1)
        net[2].weight += torch.randn(16, 20) @ net[1](images.flatten(1)) * 0.05
    return net, anchor, images


def test_layers_behind_a_guess_are_not_certified():
    net, anchor, images = learnt_behind_a_normalisation()
    sound = purify(net, images, anchor=anchor, method="exact").record
    assert (sound.guarantee, sound.layers[0].certified) == (Guarantee.EXACT, 16)
    with torch.no_grad():
        net[1].bias[3] = NAN
    record = purify(net, images, anchor=anchor, method="exact").record
    assert record.guarantee is Guarantee.APPROXIMATE
    (layer,) = record.layers
    assert (layer.certified, layer.contaminated, layer.guarantee) == (0, 0, Guarantee.APPROXIMATE)
    assert "nothing is certified" in layer.notes[0]
    assert record.guessed == (Guessed("1.bias", 1, 196),)


def test_layers_before_a_guess_keep_their_certificates():
    net, anchor, images = learnt_behind_a_normalisation()
    net, anchor = nn.Sequential(*net, nn.LayerNorm(16)), nn.Sequential(*anchor, nn.LayerNorm(16))
    with torch.no_grad():
        net[3].bias[3] = NAN
    record = purify(net, images, anchor=anchor, method="exact").record
    assert (record.layers[0].certified, record.layers[0].guarantee) == (16, Guarantee.EXACT)
    assert record.guarantee is Guarantee.APPROXIMATE


def test_layers_behind_an_estimate_are_not_certified():
    """The first layer sees more images than it has directions, and is estimated; the second has room."""
    torch.manual_seed(0)
    images = torch.randn(60, 20)
    anchor = nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 4))
    net = copy.deepcopy(anchor)
    with torch.no_grad():
        net[0].weight += 0.05 * torch.randn(200, 20)
        steps = torch.randn(4, 60) * 0.05
        net[2].weight += steps @ net[1](net[0](images))
        net[2].bias += steps.sum(1)
        net[2].weight[0, :5] += 1
    layers = purify(net, images, anchor=anchor, method="exact").record.layers
    assert layers[0].guarantee is not Guarantee.EXACT
    assert (layers[1].certified, layers[1].guarantee) == (0, Guarantee.APPROXIMATE)


def test_a_guess_is_no_unchanged_network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    with torch.no_grad():
        net[1].weight[3] = NAN
    result = purify(net, torch.rand(40, 1, 8, 8), method="robust")
    assert result.record.guarantee is Guarantee.APPROXIMATE
    assert result.record.untouched == ("1.bias",)
    assert result.model[1].weight[3].item() == 1.0
    verdict = judge(result.record)
    assert "Nothing was changed" not in verdict.headline
    assert any("1 entry of 1 parameter beside these layers" in sentence for sentence in verdict.done)


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(64, 3)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, images):
        return self.dense(images.flatten(1) - self.mean)


def test_nan_in_a_buffer_is_named_or_taken_from_the_anchor():
    torch.manual_seed(0)
    net, images = Shifted(), torch.rand(40, 1, 8, 8)
    anchor = copy.deepcopy(net)
    net.mean[5] = NAN
    with pytest.raises(InputError, match="mean: 1 of 64 entries arrived as NaN"):
        purify(net, images, method="robust")
    result = purify(net, images, anchor=anchor, method="robust")
    assert result.record.guessed == (Guessed("mean", 1, 64),)
    assert float(result.model.mean[5]) == 0.0
