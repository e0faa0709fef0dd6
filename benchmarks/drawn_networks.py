"""Small image classifiers drawn at random: how they are built, normalised, activated, pooled and read out."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn

__all__ = ["draw_network"]

Layers = list[nn.Module]
Block = Callable[..., Layers]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
}
NORMS: dict[str, Callable[[int], Layers]] = {
    "batch": lambda width: [nn.BatchNorm2d(width)],
    "group": lambda width: [nn.GroupNorm(4, width)],
    "no": lambda width: [],
}


class Joined(nn.Module):
    """What a branch computes, added to its input or laid beside it."""

    def __init__(self, branch: nn.Module, beside: bool = False) -> None:
        super().__init__()
        self.branch, self.beside = branch, beside

    def forward(self, images: Tensor) -> Tensor:
        made = self.branch(images)
        return torch.cat([images, made], 1) if self.beside else images + made


def draw_network(draw: Random, images: Tensor, classes: int = 10) -> tuple[nn.Module, str]:
    """Draw a classifier of such images, shape (n, c, h, w), and say in words what it is."""
    kinds = ["plain", "plain", "residual", "dense", "separable"] + ["perceptron"] * (images.shape[1] == 1)
    kind, activation = draw.choice(kinds), draw.choice(sorted(ACTIVATIONS))
    norm = draw.choice(["batch", "batch", "group", "no"])
    if kind == "perceptron":
        layers = perceptron(draw, ACTIVATIONS[activation], images[0].numel())
        return nn.Sequential(nn.Flatten(), *layers, nn.LazyLinear(classes)), f"perceptron, {activation}"

    def block(before: int, after: int, size: int = 3, stride: int = 1, groups: int = 1) -> Layers:
        layer = nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=norm == "no")
        return [layer, *NORMS[norm](after), ACTIVATIONS[activation]()]

    width, pool, averaged = (
        4 * draw.randint(4, 8),
        draw.choice(["max", "average", "stride"]),
        draw.random() < 0.5,
    )
    layers = block(images.shape[1], width, size=draw.choice([3, 5]))
    for stage in range(draw.choice([2, 3])):
        if stage:
            layers += block(width, 2 * width)
            width *= 2
        more, width = BODIES[kind](block, width, draw)
        layers += more + halved(block, width, pool)
    layers += [nn.AdaptiveAvgPool2d(1)] if averaged else []
    layers += [nn.Flatten(), *([nn.Dropout(0.3)] if draw.random() < 0.3 else []), nn.LazyLinear(classes)]
    read = "averaged" if averaged else "read by place"
    return nn.Sequential(*layers), f"{kind}, {norm} norm, {activation}, {pool} pooling, {read}"


def halved(block: Block, width: int, pool: str) -> Layers:
    """Half as many rows and columns."""
    if pool == "stride":
        return block(width, width, stride=2)
    return [nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2)]


def plain(block: Block, width: int, draw: Random) -> tuple[Layers, int]:
    return [layer for _ in range(draw.choice([1, 2])) for layer in block(width, width)], width


def residual(block: Block, width: int, draw: Random) -> tuple[Layers, int]:
    """One or two residual blocks. Source: He et al., CVPR 2016."""
    count = draw.choice([1, 2])
    return [
        Joined(nn.Sequential(*block(width, width), *block(width, width)[:-1])) for _ in range(count)
    ], width


def dense(block: Block, width: int, _: Random) -> tuple[Layers, int]:
    """Three layers, each beside all before it. Source: Huang et al., CVPR 2017."""
    more = [Joined(nn.Sequential(*block(width + 12 * turn, 12)), beside=True) for turn in range(3)]
    return list(more), width + 36


def separable(block: Block, width: int, _: Random) -> tuple[Layers, int]:
    """An inverted residual. Source: Sandler et al., CVPR 2018."""
    wide = 3 * width
    inner = [*block(width, wide, size=1), *block(wide, wide, groups=wide), *block(wide, width, size=1)[:-1]]
    return [Joined(nn.Sequential(*inner))], width


BODIES: dict[str, Callable[[Block, int, Random], tuple[Layers, int]]] = {
    "plain": plain,
    "residual": residual,
    "dense": dense,
    "separable": separable,
}


def perceptron(draw: Random, activation: Callable[[], nn.Module], inputs: int) -> Layers:
    layers: Layers = []
    for _ in range(draw.choice([1, 2, 3])):
        width = draw.choice([128, 256, 512])
        layers += [nn.Linear(inputs, width), activation()]
        inputs = width
    return layers
