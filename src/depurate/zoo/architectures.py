"""The zoo's architectures; each can be built at any width, because one attack overwrites a narrow slice."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def lenet(
    widths: tuple[int, int, int] = (32, 64, 256), classes: int = 10, channels: int = 1, side: int = 28
) -> nn.Module:
    """Two 5x5 convolutions and two dense layers, for 28x28 digits by default.

    Args:
        widths: Kernels of the two convolutions and units of the first dense layer.
        classes: Outputs.
        channels: Of the images.
        side: Of the images, in pixels, a multiple of 4.

    Returns:
        A freshly initialised network.
    """
    first, second, dense = widths
    return nn.Sequential(
        nn.Conv2d(channels, first, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear((side // 4) ** 2 * second, dense),
        nn.ReLU(),
        nn.Linear(dense, classes),
    )


def resnet14(width: int = 16, classes: int = 10) -> nn.Module:
    """A 6n+2 ResNet with n = 2, BatchNorm and 1x1 shortcuts for 32x32 colour images.

    Args:
        width: Channels of the first third; the others have twice and four times as many.
        classes: Outputs.

    Returns:
        A freshly initialised network.
    """
    return _ResNet14(width, classes)


def preact_resnet18(width: int = 64, classes: int = 10) -> nn.Module:
    """The pre-activation ResNet-18 that backdoor benchmarks use on 32x32 colour images.

    Args:
        width: Channels of the first quarter; each following one has twice as many.
        classes: Outputs.

    Returns:
        A freshly initialised network.

    Source: He, Zhang, Ren & Sun, Identity Mappings in Deep Residual Networks, arXiv 1603.05027.
    """
    return _PreActResNet18(width, classes)


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
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.b = nn.BatchNorm2d(width)
        shapes = ((1, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1))
        self.L = nn.Sequential(*(_Block(width * i, width * o, stride) for i, o, stride in shapes))
        self.f = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.L(torch.relu(self.b(self.c(images))))
        scores: Tensor = self.f(hidden.mean((2, 3)))
        return scores


class _PreActBlock(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if channels != width or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        ready = torch.relu(self.bn1(images))
        carried: Tensor = images if self.shortcut is None else self.shortcut(ready)
        inner: Tensor = self.conv2(torch.relu(self.bn2(self.conv1(ready))))
        return inner + carried


def _stage(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(_PreActBlock(channels, width, stride), _PreActBlock(width, width, 1))


class _PreActResNet18(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.layer1 = _stage(width, width, 1)
        self.layer2 = _stage(width, 2 * width, 2)
        self.layer3 = _stage(2 * width, 4 * width, 2)
        self.layer4 = _stage(4 * width, 8 * width, 2)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv1(images)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            hidden = stage(hidden)
        scores: Tensor = self.linear(hidden.mean((2, 3)))
        return scores
