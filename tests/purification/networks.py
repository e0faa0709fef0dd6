"""Small networks and images for the tests of purification."""

import torch
from torch import nn


def convolutional(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 3),
    )


def pictures(count=60, seed=1):
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed))


def trained_on_few(count=12, fan_in=200, width=8, seed=0, dtype=torch.float32):
    """A network whose first layer moved from its anchor only in the span of few images, as gradients make it."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, fan_in, generator=generator)
    torch.manual_seed(seed)
    anchor = nn.Sequential(nn.Linear(fan_in, width, bias=False), nn.ReLU(), nn.Linear(width, 3)).to(dtype)
    clean = nn.Sequential(nn.Linear(fan_in, width, bias=False), nn.ReLU(), nn.Linear(width, 3)).to(dtype)
    clean.load_state_dict(anchor.state_dict())
    with torch.no_grad():
        step = torch.randn(width, count, generator=generator).double() @ images.double() / fan_in**0.5
        clean[0].weight.add_(step.to(dtype))
    return clean, anchor, images


def contaminate(net, share=0.1, seed=5):
    """Gaussian noise on a share of the first layer's entries; returns where."""
    generator = torch.Generator().manual_seed(seed)
    weight = net[0].weight
    hits = torch.rand(weight.shape, generator=generator) < share
    with torch.no_grad():
        weight[hits] += torch.randn(int(hits.sum()), generator=generator).to(weight)
    return hits
