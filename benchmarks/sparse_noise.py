"""Sparse noise in deep networks: accuracy before and after repair, and how well the hit entries are found.

    python benchmarks/sparse_noise.py --data DATA --models MODELS [--only lenet] [--method auto] [--out table.json]

DATA and MODELS as for benchmarks/purification.py. The network is repaired by `robust` with 500 unlabelled images and
measured on 2,000 others; precision and recall count entries of weights, biases, scales and shifts that were changed,
`recall, large` only those that the noise moved by more than their tensor's standard deviation. The ResNet-14 carries a
backdoor as well, which `auto` goes on to remove: `attack` is the share of triggered images sent to its target then.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from depurate import purify
from depurate.checkpoints import load_state, read_checkpoint, read_labelled
from depurate.contamination import BadNets, parse_noise
from networks import lenet, resnet14

BENIGN = 500
MEASURED = 2000
MEAN, DEVIATION = 0.47, 0.25
TRIGGER = BadNets(rows=(28, 31), columns=(28, 31), value=(1 - MEAN) / DEVIATION, target=0)


@dataclass(frozen=True)
class Case:
    """One network and what is done to it."""

    name: str
    network: Callable[[], nn.Module]
    clean: str
    anchor: str | None
    noise: str


@dataclass(frozen=True)
class Row:
    """One line of the table; accuracies in per cent."""

    case: str
    anchor: str
    noise: str
    before: float
    after: float
    clean: float
    attack: float | None
    precision: float
    recall: float
    recall_large: float
    seconds: float


_LENET_NOISE = (
    "sparse:rate=0.3,law=gaussian,scale=10",
    "sparse:rate=0.3,law=gaussian,scale=3",
    "sparse:rate=0.3,law=gaussian,scale=1",
    "sparse:rate=0.3,law=gaussian,scale=0.3",
    "stuck:rate=0.1,at=max",
    "signflip:rate=0.05",
    "burst:rate=0.05,over=pages,scale=10",
    "nonfinite:rate=0.05",
)
_RESNET_NOISE = (
    *(f"bitflip:rate={rate}" for rate in ("1e-5", "1e-4", "1e-3")),
    *(f"sparse:rate=0.1,law=gaussian,scale={scale}" for scale in (10, 3, 1)),
    "signflip:rate=0.05",
    "stuck:rate=0.1,at=zero",
    *(f"burst:rate=0.1,over={over},scale=10" for over in ("kernels", "channels", "pages")),
)
CASES = tuple(
    Case("lenet-mnist", lenet, "lenet-mnist/clean", anchor, noise)
    for noise in _LENET_NOISE
    for anchor in ("lenet-mnist/init", None)
) + tuple(
    Case("resnet14-cifar10", resnet14, "resnet14-cifar10/badnets", anchor, noise)
    for noise in _RESNET_NOISE
    for anchor in ("resnet14-cifar10/init", None)
)


def pictures(case: Case, data: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Benign images, test images and their labels."""
    if case.network is lenet:
        images, labels = read_labelled("torchvision:MNIST", data_root=data)
    else:
        images, labels = read_labelled(data / "cifar10" / "test.zip")
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
        images, labels = (images[order] - MEAN) / DEVIATION, labels[order]
    return images[-BENIGN:], images[:MEASURED], labels[:MEASURED]


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of right answers, in per cent."""
    with torch.no_grad():
        answers = torch.cat([model(batch).argmax(1) for batch in images.split(250)])
    return round(100 * float((answers == labels).double().mean()), 2)


def localisation(clean: nn.Module, suspect: nn.Module, repaired: nn.Module) -> tuple[float, float, float]:
    """Precision, recall and recall of large changes over all parameters."""
    right = found = hit = large = large_found = 0
    triples = zip(clean.parameters(), suspect.parameters(), repaired.parameters(), strict=True)
    for before, noisy, after in triples:
        mask = noisy != before
        changed = (after != noisy) & ~(after.isnan() & noisy.isnan())
        far = mask & ~((noisy - before).abs() <= before.std())
        right, found, hit = (
            right + int((mask & changed).sum()),
            found + int(changed.sum()),
            hit + int(mask.sum()),
        )
        large, large_found = large + int(far.sum()), large_found + int((far & changed).sum())
    return right / max(found, 1), right / max(hit, 1), large_found / max(large, 1)


def attack(case: Case, model: nn.Module, images: Tensor, labels: Tensor) -> float | None:
    """Share of triggered images of other classes sent to the target, in per cent; None where nothing was planted."""
    if case.network is not resnet14:
        return None
    others = images[labels != TRIGGER.target]
    return accuracy(model, TRIGGER.stamp(others), torch.full((len(others),), TRIGGER.target))


def run(case: Case, data: Path, models: Path, seed: int, method: str) -> Row:
    """Contaminate, repair and measure."""
    benign, images, labels = pictures(case, data)

    def network(name: str) -> nn.Module:
        path = models / f"{name}.safetensors"
        return load_state(case.network(), read_checkpoint(path), source=str(path)).eval()

    clean = network(case.clean)
    suspect = copy.deepcopy(clean)
    suspect.load_state_dict(parse_noise(case.noise).apply(clean.state_dict(), seed).values)
    started = time.perf_counter()
    repaired = purify(suspect, benign, None if case.anchor is None else network(case.anchor), method).model
    seconds = time.perf_counter() - started
    return Row(
        case.name,
        "true" if case.anchor else "none",
        case.noise,
        *(accuracy(model, images, labels) for model in (suspect, repaired, clean)),
        attack(case, repaired, images, labels),
        *(round(share, 4) for share in localisation(clean, suspect, repaired)),
        round(seconds, 1),
    )


def main() -> None:
    """Run every case and print the table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    parser.add_argument("--only", default="", help="run the cases whose name or noise contains this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", choices=("robust", "auto"), default="robust")
    arguments = parser.parse_args()
    print(
        "| network | anchor | noise | before | after | clean | attack | precision | recall | recall, large | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    for case in CASES:
        if arguments.only in f"{case.name} {case.noise}":
            rows.append(run(case, arguments.data, arguments.models, arguments.seed, arguments.method))
            print(f"| {' | '.join(map(str, asdict(rows[-1]).values()))} |", flush=True)
            if arguments.out is not None:
                arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    sys.exit(main())
