"""`purify` where running statistics are hit and nothing else is."""

import copy

import torch
from sklearn.datasets import load_digits
from torch import nn

from depurate import purify
from depurate.recovery import Guarantee


def network():
    """A network trained to tell digits apart, whose normalisation kept the statistics of the images."""
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    net = nn.Sequential(
        nn.Conv2d(1, 40, 3, bias=False),
        nn.BatchNorm2d(40),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(40 * 36, 10),
    )
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for batch in torch.randint(len(images), (150, 128)):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
        optimiser.step()
    net[1].momentum = 1.0
    net(images)
    return net.eval().requires_grad_(False), images[:500]


def test_they_are_estimated_anew_and_that_is_said():
    net, images = network()
    hit = copy.deepcopy(net)
    hit[1].running_var[[3, 8, 20]] = 0.0
    received = copy.deepcopy(hit.state_dict())
    result = purify(hit, images)
    assert all(torch.equal(received[name], value) for name, value in hit.state_dict().items())
    assert torch.allclose(result.model[1].running_var, net[1].running_var, rtol=0.2)
    layer = result.layers[1]
    assert layer.method == "statistics" and layer.contaminated == 3
    assert layer.guarantee is Guarantee.APPROXIMATE
    assert "3 of 80 running statistics contradict the benign images" in layer.notes[0]
    assert any("3 running statistics of normalisations contradict" in said for said in result.record.warnings)


def test_a_network_that_meets_the_images_keeps_its_own():
    net, images = network()
    result = purify(net, images)
    assert torch.equal(result.model[1].running_mean, net[1].running_mean)
    assert torch.equal(result.model[1].running_var, net[1].running_var)
    assert not any("contradict" in said for said in result.record.warnings)
