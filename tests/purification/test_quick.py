"""Quicker copies of networks: the same answers, or the network itself."""

import pytest
import torch
from torch import nn

from depurate.purification.quick import coarsely, folded, laid_out
from depurate.triggers import effort


def pictures(n=3):
    return torch.rand(n, 3, 9, 9, generator=torch.Generator().manual_seed(0))


def trained(net):
    """Statistics, scales and shifts that are not what they were made with."""
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for values in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                values.copy_(0.5 + torch.rand(values.shape, generator=generator))
    return net.eval().requires_grad_(False)


class Flattening(nn.Module):
    """Uses `view` after a convolution, which channels last does not allow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)

    def forward(self, images):
        return self.layer(images).view(len(images), -1)


class Twice(nn.Module):
    """What the convolution makes is read with and without the normalisation, which must not be folded into it then."""

    def __init__(self):
        super().__init__()
        self.layer, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        made = self.layer(images)
        return (self.norm(made) + made).mean((2, 3))


class Shared(nn.Module):
    """One convolution before two normalisations."""

    def __init__(self):
        super().__init__()
        self.layer, self.first, self.second = (
            nn.Conv2d(3, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.BatchNorm2d(3),
        )

    def forward(self, images):
        return self.second(self.layer(self.first(self.layer(images)))).mean((2, 3))


class Depending(nn.Module):
    """Takes another way by what it is shown, so that its graph cannot be read."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images):
        return self.layers(images).mean((2, 3)) if images.mean() > 0 else images.mean((2, 3))


def test_weights_are_laid_out_with_channels_last():
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()))
    laid = laid_out(net, pictures())
    assert laid[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[0].weight.is_contiguous()
    assert torch.allclose(laid(pictures()), net(pictures()), atol=1e-5)


@pytest.mark.parametrize(
    ("net", "images"),
    [
        (Flattening(), pictures()),
        (nn.Conv2d(3, 4, 3).double(), pictures().double()),
        (nn.Conv2d(5, 4, 3), pictures()),  # an error of its own elsewhere
        (nn.Conv3d(1, 2, 3), torch.rand(2, 1, 5, 5, 5)),
    ],
)
def test_networks_that_cannot_be_laid_out_stay_as_they_are(net, images):
    assert laid_out(net, images) is net


def test_folding_keeps_answers_and_slopes():
    layers = [
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.BatchNorm2d(5),
    ]
    net = trained(nn.Sequential(*layers))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    quick = folded(net, pictures())
    assert sum(isinstance(module, nn.BatchNorm2d) for module in quick.modules()) == 0
    slopes = []
    for one in (net, quick):
        images = pictures().requires_grad_()
        made = one(images)
        made.square().sum().backward()
        slopes.append(images.grad)
    assert torch.allclose(made, net(pictures()), atol=1e-5)
    assert torch.allclose(*slopes, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert not any(parameter.requires_grad for parameter in quick.parameters())


@pytest.mark.parametrize(
    "net",
    [
        Twice(),
        Shared(),
        Depending(),
        nn.Conv2d(3, 4, 3),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
    ],
)
def test_what_cannot_be_folded_stays_as_it_is(net):
    net = trained(net)
    assert folded(net, pictures()) is net


def test_a_network_with_nan_is_not_folded():
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
    net[0].weight[0, 0, 0, 0] = float("nan")
    assert folded(net, pictures()) is net


class Close(nn.Module):
    """Scores that differ by less than bfloat16 tells."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.layer.bias.data.copy_(10 * torch.arange(4))

    def forward(self, images):
        return 1e3 + 1e-2 * self.layer(images).mean((2, 3))


class Unusual(nn.Module):
    """Reads its numbers bit by bit, which those of half the length do not allow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        made = self.layer(images)
        return made.mean((2, 3)) + 0 * made.detach().view(torch.int32).view(len(made), 4, 7, 7).sum((2, 3))


@pytest.mark.parametrize(
    ("build", "images", "coarse"),
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), pictures(), True),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(243, 4)), pictures(), False),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).double(), pictures().double(), False),
        (Close, pictures(60), False),
        (Unusual, pictures(), False),
    ],
)
def test_networks_are_computed_in_bfloat16_where_they_answer_alike(monkeypatch, build, images, coarse):
    torch.manual_seed(0)  # of some random networks the scores are closer than that
    net = build()
    monkeypatch.setattr(effort, "_has_matrix_units", lambda: True)
    with coarsely(net.eval().requires_grad_(False), images)():
        assert torch.is_autocast_enabled("cpu") == coarse


def test_without_matrix_units_small_pictures_are_computed_as_they_come(monkeypatch):
    monkeypatch.setattr(effort, "_has_matrix_units", lambda: False)
    with coarsely(nn.Conv2d(3, 4, 3), pictures())():
        assert not torch.is_autocast_enabled("cpu")
