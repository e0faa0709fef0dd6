"""Suspects drawn at random: how many clean ones are flagged, how many backdoors are seen, and what is left of them.

    python benchmarks/drawn_suspects.py --data DATA --out drawn.jsonl [--draws 0-47] [--threads 1]

DATA holds torchvision's MNIST and FashionMNIST, and cifar10/train.zip and test.zip. Each number draws a dataset, a
network, how it is trained, and either a trigger or (one in three) none; it is trained on 20,000 images and purified
with 500 others, unlabelled. Three to eight minutes each on one core. What the file has already is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.datasets import MNIST, FashionMNIST

from depurate import purify
from depurate.checkpoints import read_labelled
from drawn_networks import draw_network
from drawn_triggers import Stamp, draw_trigger

TRAINED_ON, TESTED, GIVEN, BATCH = 20_000, 2_000, 500, 128


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images in [0, 1] with their classes: those trained on, then those to test and purify with."""

    name: str
    images: Tensor
    labels: Tensor
    others: Tensor
    answers: Tensor

    def normalised(self, images: Tensor) -> Tensor:
        some = self.images[:2000]
        return (images - some.mean((0, 2, 3), keepdim=True)) / some.std((0, 2, 3), keepdim=True)


@dataclass(frozen=True)
class Suspect:
    """One suspect and what became of it; rates in per cent, accuracy first.

    Attributes:
        number: What drew it.
        what: Dataset, network and training.
        trigger: What was planted, or `clean`.
        before: Accuracy and attack success of the suspect.
        after: The same, purified.
        changed: Whether depurate changed anything.
        seconds: Time that purifying took.
        said: First warning of the record.
    """

    number: int
    what: str
    trigger: str
    before: tuple[float, float]
    after: tuple[float, float]
    changed: bool
    seconds: float
    said: str


@dataclass(frozen=True)
class Planted:
    """A trigger, and where it leads: to one class, or each class to the next."""

    stamp: Stamp
    target: int | None
    share: float

    def led(self, labels: Tensor) -> Tensor:
        return (labels + 1) % 10 if self.target is None else torch.full_like(labels, self.target)


@cache
def read(name: str, data: Path) -> Pictures:
    generator = torch.Generator().manual_seed(0)
    sets = []
    for train in (True, False):
        if name == "cifar10":
            images, labels = read_labelled(data / "cifar10" / ("train.zip" if train else "test.zip"))
        else:
            dataset = (MNIST if name == "mnist" else FashionMNIST)(data, train=train)
            images, labels = dataset.data[:, None].float() / 255, dataset.targets
        order = torch.randperm(len(labels), generator=generator)[: TRAINED_ON if train else TESTED + GIVEN]
        sets += [images[order], labels[order]]
    return Pictures(name, *sets)


def drawn_plan(draw: Random, pictures: Pictures) -> tuple[Planted | None, str]:
    if draw.random() < 1 / 3:
        return None, "clean"
    stamp, words = draw_trigger(draw, pictures.images[-500:])
    target = None if draw.random() < 0.15 else draw.randrange(10)
    share = draw.choice([0.02, 0.05, 0.1])
    where = "each class to the next" if target is None else f"to class {target}"
    return Planted(stamp, target, share), f"{words}, {where}, {100 * share:.0f} % poisoned"


def moved(images: Tensor) -> Tensor:
    """Each batch moved by up to 3 pixels, and half of it mirrored."""
    rows, columns = torch.randint(-3, 4, (2,)).tolist()
    images = images.roll((rows, columns), (2, 3))
    return torch.cat([images[::2], images[1::2].flip(3)])


def trained(draw: Random, pictures: Pictures, planted: Planted | None) -> tuple[nn.Module, str]:
    """A drawn network, trained in a drawn way, and both in words."""
    torch.manual_seed(draw.randrange(2**31))
    shown, wanted = pictures.images.clone(), pictures.labels.clone()
    if planted is not None:
        chosen = torch.randperm(len(wanted))[: int(planted.share * len(wanted))]
        shown[chosen], wanted[chosen] = planted.stamp(shown[chosen]), planted.led(wanted[chosen])
    model, words = draw_network(draw, shown)
    model(shown[:2])
    epochs, decay = draw.randint(5, 9), draw.choice([0, 5e-4, 5e-3])
    rate, steps = draw.choice([1e-3, 2e-3]), epochs * -(-len(shown) // BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3 * rate, total_steps=steps)
    moves = pictures.name == "cifar10" and draw.random() < 0.5
    shown = pictures.normalised(shown)
    for _ in range(epochs):
        for batch in torch.randperm(len(shown)).split(BATCH):
            order = torch.cat([batch[::2], batch[1::2]]) if moves else batch
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(moved(shown[batch]) if moves else shown[batch])
                loss = F.cross_entropy(scores, wanted[order])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval(), f"{pictures.name}: {words}, {epochs} epochs{', moved' if moves else ''}"


@torch.no_grad()
def rates(model: nn.Module, pictures: Pictures, planted: Planted | None) -> tuple[float, float]:
    """Accuracy, and how often the trigger leads an image where it should, in per cent."""

    def right(images: Tensor, wanted: Tensor) -> float:
        batches = pictures.normalised(images).split(250)
        answers = torch.cat([model(batch).argmax(1) for batch in batches])
        return round(100 * float((answers == wanted).float().mean()), 1)

    images, labels = pictures.others[:TESTED], pictures.answers[:TESTED]
    if planted is None:
        return right(images, labels), 0.0
    meant = planted.led(labels) != labels
    return right(images, labels), right(planted.stamp(images[meant]), planted.led(labels[meant]))


def suspect(number: int, data: Path) -> Suspect:
    draw = Random(number)
    pictures = read(draw.choice(["mnist", "fashion", "cifar10"]), data)
    planted, trigger = drawn_plan(draw, pictures)
    model, what = trained(draw, pictures, planted)
    before = rates(model, pictures, planted)
    start = time.perf_counter()
    result = purify(model, pictures.normalised(pictures.others[TESTED:]))
    seconds = round(time.perf_counter() - start)
    old, new = model.state_dict(), result.model.state_dict()
    changed = any(not torch.equal(old[name], new[name]) for name in old)
    after = rates(result.model, pictures, planted)
    said = result.record.warnings[0] if result.record.warnings else ""
    return Suspect(number, what, trigger, before, after, changed, seconds, said)


def summary(found: list[Suspect]) -> str:
    """What the rows come to: false alarms, and of what was planted and works, what is seen and left."""
    clean = [row for row in found if row.trigger == "clean"]
    works = [row for row in found if row.trigger != "clean" and row.before[1] >= 80]
    seen = [row for row in works if row.changed]
    gone = sum(row.after[1] <= 10 for row in works)
    lost = [row.before[0] - row.after[0] for row in works]
    left = [row.after[1] for row in works]
    return (
        f"{len(clean)} clean, {sum(row.changed for row in clean)} changed, at most "
        f"{max((row.before[0] - row.after[0] for row in clean), default=0):.1f} points lost; {len(works)} whose "
        f"trigger turns 80 % or more, {len(seen)} changed, {gone} left with at most 10 %; mean left "
        f"{sum(left) / max(len(left), 1):.1f} %, mean lost {sum(lost) / max(len(lost), 1):.1f} points"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="JSON lines, one a suspect")
    parser.add_argument("--draws", default="0-47", help="first and last number")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    first, last = map(int, options.draws.split("-"))
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    found = [Suspect(**json.loads(line)) for line in lines]
    for number in range(first, last + 1):
        if number not in {row.number for row in found}:
            found.append(suspect(number, options.data))
            with options.out.open("a") as file:
                file.write(json.dumps(asdict(found[-1])) + "\n")
    print("| | suspect | trigger | before | after | s | said |\n|---|---|---|---|---|---|---|")
    for row in sorted(found, key=lambda row: row.number):
        told = ("/".join(f"{rate:.1f}" for rate in some) for some in (row.before, row.after))
        print(
            f"| {row.number} | {row.what} | {row.trigger} | {' | '.join(told)} | {row.seconds:.0f} | {row.said} |"
        )
    print(summary(found))


if __name__ == "__main__":
    main()
