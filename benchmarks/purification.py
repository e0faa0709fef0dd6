"""The README's table: real backdoored checkpoints, purified with 500 unlabelled images, before and after.

    python benchmarks/purification.py --data DATA --models MODELS [--out table.json]

DATA holds torchvision's MNIST folder and cifar10/test.zip (class folders of JPEGs); MODELS the checkpoints. The
benign images are the last 500 of the test set (of a seeded shuffle where the set is sorted by class); everything is
measured on its first 2,000, which no recovery sees.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from depurate import purify
from depurate.checkpoints import load_state, read_checkpoint, read_labelled
from depurate.contamination import BadNets
from networks import badnet, lenet, resnet14, vgg

BENIGN = 500
MEASURED = 2000


@dataclass(frozen=True)
class Case:
    """One contaminated checkpoint with its trigger and the strength it is purified with beside `auto`."""

    name: str
    network: Callable[[], nn.Module]
    suspect: str
    anchor: str | None
    images: str
    mean: float
    deviation: float
    trigger: str
    target: int
    strength: float


@dataclass(frozen=True)
class Row:
    """One line of the table; rates in per cent, time in seconds."""

    case: str
    anchor: str
    method: str
    strength: float | None
    accuracy_before: float
    success_before: float
    accuracy: float
    success: float
    agreement: float | None
    seconds: float


CASES = (
    Case(
        "lenet-mnist/badnets",
        lenet,
        "lenet-mnist/badnets",
        "lenet-mnist/init",
        "mnist",
        0,
        1,
        "24-27",
        0,
        0.03,
    ),
    Case("lenet-mnist/badnets", lenet, "lenet-mnist/badnets", None, "mnist", 0, 1, "24-27", 0, 0.03),
    Case("lenet-mnist/clean", lenet, "lenet-mnist/clean", None, "mnist", 0, 1, "24-27", 0, 0.03),
    Case(
        "strangers/badnet-mnist",
        badnet,
        "strangers/badnet-mnist/suspect",
        None,
        "mnist",
        0.5,
        0.5,
        "23-28",
        1,
        0.03,
    ),
    Case(
        "resnet14-cifar10/badnets",
        resnet14,
        "resnet14-cifar10/badnets",
        "resnet14-cifar10/init",
        "cifar10",
        0.47,
        0.25,
        "28-31",
        0,
        0.3,
    ),
    Case(
        "resnet14-cifar10/badnets",
        resnet14,
        "resnet14-cifar10/badnets",
        None,
        "cifar10",
        0.47,
        0.25,
        "28-31",
        0,
        0.3,
    ),
    Case(
        "strangers/vgg badnets_8",
        vgg,
        "strangers/vgg-cifar10/badnets_8",
        None,
        "cifar10",
        0,
        1,
        "27-31",
        8,
        0.3,
    ),
    Case(
        "strangers/vgg trojan_wm_2",
        vgg,
        "strangers/vgg-cifar10/trojan_wm_2",
        None,
        "cifar10",
        0,
        1,
        "watermark",
        2,
        0.3,
    ),
)


def read_split(case: Case, data: Path, draw: int | None) -> tuple[Tensor, Tensor]:
    """Read a test set in an order that does not depend on class, or in a random one; pixels in [0, 1]."""
    if case.images == "mnist":
        images, labels = read_labelled("torchvision:MNIST", data_root=data)
        if draw is None:
            return images, labels
    else:
        images, labels = read_labelled(data / "cifar10" / "test.zip")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(draw or 0))
    return images[order], labels[order]


def triggered(case: Case, images: Tensor, models: Path) -> Tensor:
    """Put the case's trigger on images with pixels in [0, 1]."""
    if case.trigger == "watermark":
        picture = Image.open(models / "strangers" / "vgg-cifar10" / "trojan_wm_trigger.png").convert("RGB")
        return (images + pil_to_tensor(picture) / 255).clamp(0, 1)
    first, end = map(int, case.trigger.split("-"))
    return BadNets(rows=(first, end), columns=(first, end), target=case.target).stamp(images)


def answers(model: nn.Module, images: Tensor) -> Tensor:
    """Top answers of a network."""
    with torch.no_grad():
        return torch.cat([model(batch).argmax(1) for batch in images.split(250)])


def run(case: Case, data: Path, models: Path, methods: tuple[str, ...], draw: int | None) -> list[Row]:
    """Purify one case with each method and measure."""
    images, labels = read_split(case, data, draw)
    benign = (images[-BENIGN:] - case.mean) / case.deviation
    images, labels = images[:MEASURED], labels[:MEASURED]
    clean = (images - case.mean) / case.deviation
    others = labels != case.target
    attacked = (triggered(case, images[others], models) - case.mean) / case.deviation

    def rates(model: nn.Module) -> tuple[float, float]:
        right = (answers(model, clean) == labels).double().mean()
        fooled = (answers(model, attacked) == case.target).double().mean()
        return round(100 * right.item(), 2), round(100 * fooled.item(), 2)

    def network(name: str) -> nn.Module:
        path = models / f"{name}.safetensors"
        return load_state(case.network(), read_checkpoint(path), source=str(path)).eval()

    suspect = network(case.suspect)
    anchor = None if case.anchor is None else network(case.anchor)
    rows = []
    for method in methods:
        started = time.perf_counter()
        distil = method == "distil"
        strength = case.strength if method == "soft" else None
        result = purify(suspect, benign, anchor, "auto" if distil else method, strength, distil=distil)
        seconds = time.perf_counter() - started
        used = next((layer.strength for layer in result.layers if layer.strength is not None), None)
        agreement = result.record.agreement
        rows.append(
            Row(
                case.name,
                "true" if anchor is not None else "none",
                method,
                used,
                *rates(suspect),
                *rates(result.model),
                None if agreement is None else round(100 * agreement.agreement, 1),
                round(seconds, 1),
            )
        )
    return rows


def line(row: Row) -> str:
    """One line of the Markdown table."""
    before, after = (
        f"{row.accuracy_before:.1f}/{row.success_before:.1f}",
        f"{row.accuracy:.1f}/{row.success:.1f}",
    )
    used = "-" if row.strength is None else f"{row.strength:g}"
    cells = (row.case, row.anchor, row.method, used, before, after, row.agreement, f"{row.seconds:.0f}")
    return f"| {' | '.join(map(str, cells))} |"


def main() -> None:
    """Run every case and print the table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    parser.add_argument("--only", help="run the cases whose name contains this")
    parser.add_argument("--methods", default="soft,auto,distil", help="distil: auto, then distilled")
    parser.add_argument("--draw", type=int, help="split the test set at random by this seed instead")
    arguments = parser.parse_args()
    print("| suspect | anchor | method | strength | before ACC/ASR | after ACC/ASR | agreement | s |")
    print("|---|---|---|---|---|---|---|---|")
    rows: list[Row] = []
    for case in CASES:
        if arguments.only is None or arguments.only in case.name:
            found = run(
                case, arguments.data, arguments.models, tuple(arguments.methods.split(",")), arguments.draw
            )
            rows += found
            print(*map(line, found), sep="\n", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    sys.exit(main())
