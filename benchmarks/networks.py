"""Architectures of the checkpoints that the README and the benchmarks purify; no factory needs arguments."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from depurate.zoo.architectures import lenet, resnet14

__all__ = ["badnet", "lenet", "resnet14", "vgg"]


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


class _WithClassifier(nn.Module):
    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.features(images).flatten(1))
        return scores
