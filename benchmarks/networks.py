"""Architectures of the checkpoints that the README and the benchmarks purify; each factory takes no arguments."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn


def lenet() -> nn.Module:
    """Two 5x5 convolutions and two dense layers for 28x28 digits in [0, 1]."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def badnet() -> nn.Module:
    """The digit classifier of a public BadNets replication; inputs (x - 0.5) / 0.5."""
    layers = OrderedDict(
        conv1=nn.Sequential(nn.Conv2d(1, 16, 5), nn.ReLU(), nn.AvgPool2d(2)),
        conv2=nn.Sequential(nn.Conv2d(16, 32, 5), nn.ReLU(), nn.AvgPool2d(2)),
        flat=nn.Flatten(),
        fc1=nn.Sequential(nn.Linear(512, 512), nn.ReLU()),
        fc2=nn.Sequential(nn.Linear(512, 10)),
    )
    return nn.Sequential(layers)


def vgg() -> nn.Module:
    """A small VGG with BatchNorm and ELU for 32x32 colour images in [0, 1]."""
    layers: list[nn.Module] = []
    channels = 3
    for width in (32, 64, 128):
        for _ in range(2):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ELU()]
            channels = width
        layers += [nn.MaxPool2d(2), nn.Dropout(0.2)]
    return _WithClassifier(nn.Sequential(*layers), nn.Linear(2048, 10))


def resnet14() -> nn.Module:
    """A 6n+2 ResNet with n = 2 and 1x1 shortcuts for 32x32 colour images, inputs (x - 0.47) / 0.25."""
    return _ResNet14()


class _WithClassifier(nn.Module):
    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.b1 = nn.BatchNorm2d(width)
        self.c2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.b2 = nn.BatchNorm2d(width)
        self.sc = nn.Sequential()
        if channels != width:
            self.sc = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        inner = torch.relu(self.b1(self.c1(images)))
        return torch.relu(self.b2(self.c2(inner)) + self.sc(images))


class _ResNet14(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.b = nn.BatchNorm2d(16)
        widths = ((16, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))
        self.L = nn.Sequential(*(_Block(*width) for width in widths))
        self.f = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.L(torch.relu(self.b(self.c(images))))
        scores: Tensor = self.f(hidden.mean((2, 3)))
        return scores
