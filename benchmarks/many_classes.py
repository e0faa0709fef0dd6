"""A hundred classes, and waves of several kinds: networks trained with a backdoor, then purified.

    python benchmarks/many_classes.py --data DATA [--only badnets,sig-6-0.6]

DATA holds torchvision's MNIST and FashionMNIST. Two digits side by side make one of a hundred classes, five images a
class for depurate; the waves (SIG, by periods over the picture and height) are planted into the CNN on Fashion-MNIST
that `unseen_attacks.py` uses. Each takes two to three minutes to train and one to purify on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.datasets import MNIST

from depurate import purify
from depurate.contamination.attacks import Attack, parse_attack
from depurate.contamination.attacks.protocol import LearnsFromData
from unseen_attacks import fit, network, normalise, read

TRAINED_ON, TESTED, GIVEN = 20_000, 2_000, 500
CORNER = "rows=24-27,columns=24-27"
# By name: the attack, the share of the training images that it poisons, and the seed of the training.
PAIRS: Mapping[str, tuple[str | None, float, int]] = {
    "badnets": (f"badnets:{CORNER},target=7", 0.05, 1),
    "blended": ("blended:target=42", 0.05, 1),
    "natural": ("natural:row=19,column=19,target=55", 0.05, 1),
    "wanet": ("wanet:strength=1,target=7", 0.1, 1),
    "pairs-clean": (None, 0.0, 1),
}
WAVES: Mapping[str, tuple[str | None, float, int]] = {
    "sig-6-0.6": ("sig:amplitude=0.6,train=0.4", 0.08, 0),
    "sig-6-0.16": ("sig", 0.08, 0),
    "sig-3-0.3": ("sig:amplitude=0.3,train=0.3,frequency=3,target=2", 0.08, 2),
}


def pairs(data: Path, train: bool, count: int) -> tuple[Tensor, Tensor]:
    """Two digits, without their margins, side by side in 28 by 28 pixels, and the number they make."""
    digits = MNIST(data, train=train)
    images, labels = digits.data[:, None].float() / 255, digits.targets
    generator = torch.Generator().manual_seed(1 if train else 2)
    left, right = torch.randint(len(images), (2, count), generator=generator)
    both = torch.cat([images[left][..., 3:25], images[right][..., 3:25]], 3)
    return F.interpolate(both, size=(28, 28), mode="area"), 10 * labels[left] + labels[right]


def poisoned(attack: Attack, images: Tensor, labels: Tensor, share: float) -> tuple[Attack, Tensor, Tensor]:
    if isinstance(attack, LearnsFromData):
        attack = attack.prepare(images, labels, 0)
    return attack, *attack.poison(images, labels, share, 0)


@torch.no_grad()
def rates(model: nn.Module, attack: Attack | None, images: Tensor, labels: Tensor) -> str:
    """Accuracy and attack success, in per cent."""

    def answers(some: Tensor) -> Tensor:
        return torch.cat([model(normalise(batch)).argmax(1) for batch in some.split(250)])

    right = 100 * float((answers(images) == labels).float().mean())
    if attack is None:
        return f"{right:.1f}/-"
    wanted = attack.wanted(labels)
    led = (answers(attack.stamp(images)) == wanted)[wanted != labels]
    return f"{right:.1f}/{100 * float(led.float().mean()):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", help="names separated by commas")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| attack | before ACC/ASR | after ACC/ASR | said |\n|---|---|---|---|")
    for name in options.only.split(",") if options.only else (*PAIRS, *WAVES):
        spec, share, seed = {**PAIRS, **WAVES}[name]
        of_pairs = name in PAIRS
        if of_pairs:
            images, labels = pairs(options.data, True, 2 * TRAINED_ON)
            tested, right = pairs(options.data, False, TESTED + GIVEN)
        else:
            (images, labels), (tested, right) = (read(options.data, train) for train in (True, False))
            images, labels = images[:TRAINED_ON], labels[:TRAINED_ON]
        attack = None
        if spec is not None:
            attack, images, labels = poisoned(parse_attack(spec), images, labels, share)
        torch.manual_seed(seed)
        suspect = fit(network(100 if of_pairs else 10), images, labels)
        before = rates(suspect, attack, tested[:TESTED], right[:TESTED])
        result = purify(suspect, normalise(tested[-GIVEN:]))
        after = rates(result.model, attack, tested[:TESTED], right[:TESTED])
        print(f"| {name} | {before} | {after} | {result.record.warnings[0]} |", flush=True)


if __name__ == "__main__":
    main()
