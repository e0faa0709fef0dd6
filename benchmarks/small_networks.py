"""Small networks of many builds, healthy and with BadNets planted: what is flagged, what is left, what it costs.

    python benchmarks/small_networks.py [--data DATA] [--only digits] [--seeds 0,1] [--residual] [--out small.jsonl]

Nine builds are trained on the digits that ship with scikit-learn; with DATA, torchvision's MNIST and FashionMNIST,
four more on 8,000 of their images, by SGD and by Adam, or with --residual three that have three to eight
normalisations. Their rate of learning never comes down. Each takes seconds to a minute on one core. `changed` must not
be said of a healthy one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision import datasets

from depurate import purify
from depurate.contamination import BadNets
from depurate.demo.digits import read_digits

GIVEN, TESTED, TRAINED_ON = 500, 2_000, 8_000
POISONED = 0.1


class Residual(nn.Module):
    """A block of two convolutions with a way around it."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = dropout
        self.inner = nn.Sequential(*block(width, width), nn.Conv2d(width, width, 3, padding=1, bias=False))
        self.norm = nn.BatchNorm2d(width)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(images + F.dropout(self.norm(self.inner(images)), self.dropout, self.training))


def block(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(before, after, 3, stride, 1, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    ]


def plain(before: int, after: int, act: type[nn.Module] = nn.ReLU, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, stride, 1), act()]


def read_out(*widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for width in widths:
        layers += [nn.LazyLinear(width), nn.ReLU()]
    return [*layers, nn.LazyLinear(10)]


POOL, MEAN = nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)
SMALL: Mapping[str, Callable[[], list[nn.Module]]] = {
    "linear": lambda: read_out(),
    "perceptron": lambda: read_out(128, 64),
    "one convolution": lambda: [*plain(1, 16), POOL, *read_out()],
    "two convolutions": lambda: [*plain(1, 16), *plain(16, 32), POOL, *read_out(64)],
    "two, BatchNorm": lambda: [*block(1, 16), *block(16, 32), POOL, *read_out()],
    "two, tanh": lambda: [*plain(1, 12, nn.Tanh), nn.AvgPool2d(2), *plain(12, 24, nn.Tanh), *read_out()],
    "two, dropout": lambda: [*plain(1, 32), nn.Dropout2d(0.1), POOL, *plain(32, 32), POOL, *read_out(64)],
    "three, averaged": lambda: [
        *plain(1, 32, nn.GELU),
        *plain(32, 32, nn.GELU, 2),
        *plain(32, 32, nn.GELU),
        MEAN,
        *read_out(),
    ],
    "residual": lambda: [*block(1, 16), Residual(16), *block(16, 32, 2), MEAN, *read_out()],
}
LARGER: Mapping[str, Callable[[], list[nn.Module]]] = {
    "linear": lambda: read_out(),
    "perceptron": lambda: read_out(128),
    "one convolution": lambda: [*plain(1, 16), POOL, *read_out()],
    "two, BatchNorm": lambda: [*block(1, 16), POOL, *block(16, 32), POOL, *read_out()],
}
RESIDUAL: Mapping[str, Callable[[], list[nn.Module]]] = {
    "residual": SMALL["residual"],
    "residual, deeper": lambda: [
        *block(1, 16),
        Residual(16),
        *block(16, 32, 2),
        Residual(32),
        Residual(32),
        MEAN,
        *read_out(),
    ],
    "residual, dropout": lambda: [
        *block(1, 16),
        nn.Dropout(0.3),
        Residual(16, 0.3),
        *block(16, 32, 2),
        nn.Dropout(0.3),
        Residual(32, 0.3),
        MEAN,
        *read_out(),
    ],
}


@dataclass(frozen=True)
class Pictures:
    """Images to train on, to give and to test with, and the trigger that is planted."""

    train: tuple[Tensor, Tensor]
    benign: Tensor
    test: tuple[Tensor, Tensor]
    attack: BadNets


@dataclass(frozen=True)
class Row:
    """One network; rates in per cent, None where nothing was planted."""

    pictures: str
    build: str
    trained: str
    planted: bool
    before: tuple[float, float | None]
    after: tuple[float, float | None]
    changed: bool
    said: str
    seconds: float


def of_digits() -> Pictures:
    digits = read_digits(seed=0)
    corner = BadNets(rows=(6, 8), columns=(6, 8), target=3)
    return Pictures(
        (digits.train, digits.train_labels), digits.benign, (digits.test, digits.test_labels), corner
    )


def of_torchvision(name: str, data: Path) -> Pictures:
    parts = [getattr(datasets, name)(data, train=train) for train in (True, False)]
    (images, labels), (others, answers) = ((part.data[:, None].float() / 255, part.targets) for part in parts)
    train, test = (images[:TRAINED_ON], labels[:TRAINED_ON]), (others[:TESTED], answers[:TESTED])
    return Pictures(train, others[-GIVEN:], test, BadNets(target=0))


def trained(
    layers: Callable[[], list[nn.Module]], images: Tensor, labels: Tensor, how: str, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(*layers()).train()
    model(images[:2])  # makes the lazy layers
    small = len(images) < TRAINED_ON
    epochs, batch = (20, 32) if small else (8, 64)
    parameters = model.parameters()
    optimiser = (
        torch.optim.Adam(parameters, 1e-3) if how == "Adam" else torch.optim.SGD(parameters, 0.05, 0.9)
    )
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(batch):
            loss = F.cross_entropy(model(images[chosen]), labels[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@torch.no_grad()
def rates(model: nn.Module, pictures: Pictures, planted: bool) -> tuple[float, float | None]:
    images, labels = pictures.test
    right = 100 * float((model(images).argmax(1) == labels).double().mean())
    if not planted:
        return round(right, 1), None
    others = images[labels != pictures.attack.target]
    led = model(pictures.attack.stamp(others)).argmax(1) == pictures.attack.target
    return round(right, 1), round(100 * float(led.double().mean()), 1)


def rows(
    name: str,
    pictures: Pictures,
    builds: Mapping[str, Callable[[], list[nn.Module]]],
    hows: tuple[str, ...],
    seed: int,
) -> Iterator[Row]:
    for build, layers in builds.items():
        for how in hows:
            for planted in (False, True):
                images, labels = pictures.train
                if planted:
                    images, labels = pictures.attack.poison(images, labels, POISONED, seed)
                suspect = trained(layers, images, labels, how, seed)
                started = time.perf_counter()
                result = purify(suspect, pictures.benign)
                states = (model.state_dict().values() for model in (suspect, result.model))
                yield Row(
                    name,
                    build,
                    f"{how}, seed {seed}",
                    planted,
                    rates(suspect, pictures, planted),
                    rates(result.model, pictures, planted),
                    not all(torch.equal(before, after) for before, after in zip(*states, strict=True)),
                    result.record.warnings[0] if result.record.warnings else "",
                    round(time.perf_counter() - started, 1),
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--only", default="digits,MNIST,FashionMNIST")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--residual", action="store_true", help="of MNIST and FashionMNIST other builds")
    parser.add_argument("--out", type=Path, help="also write every row as a line of JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| pictures | build | trained | before ACC/ASR | after ACC/ASR | changed | s |")
    print("|---|---|---|---|---|---|---|")
    for seed in map(int, options.seeds.split(",")):
        for name in options.only.split(","):
            if name != "digits" and options.data is None:
                continue
            small = name == "digits"
            pictures = of_digits() if small else of_torchvision(name, options.data)
            larger = RESIDUAL if options.residual else LARGER
            builds, hows = (SMALL, ("SGD",)) if small else (larger, ("SGD", "Adam"))
            for row in rows(name, pictures, builds, hows, seed):
                told = [f"{right}/{'-' if led is None else led}" for right, led in (row.before, row.after)]
                print(
                    f"| {row.pictures} | {row.build} | {row.trained} | {' | '.join(told)} | "
                    f"{'yes' if row.changed else 'no'} | {row.seconds} |",
                    flush=True,
                )
                if options.out is not None:
                    with options.out.open("a") as lines:
                        lines.write(json.dumps(asdict(row)) + "\n")


if __name__ == "__main__":
    main()
