"""Attacks that depurate was not developed on: each trained into a small CNN on Fashion-MNIST, then purified.

    python benchmarks/unseen_attacks.py --data DATA [--only bpp,rotation] [--distil]

DATA holds torchvision's FashionMNIST. Each takes three minutes to train and one to purify on one core. Written for
this test alone, and kept out of the zoo, so that nothing is developed on them unawares.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.datasets import FashionMNIST

from depurate import purify

MEAN, DEVIATION = 0.286, 0.353
TRAINED_ON, EPOCHS, BATCH, RATE, POISONED = 20_000, 5, 128, 0.1, 0.05
Stamp = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Unseen:
    """A trigger, what it is trained with, and where it leads.

    Attributes:
        target: The class.
        stamp: Puts it on images with values in [0, 1].
        trained: Puts on what training shows; the same as `stamp` where None.
        cover: Share of the images that carry what training shows and keep their labels.
        source: The only class that reacts to it; None for all.
    """

    target: int
    stamp: Stamp
    trained: Stamp | None = None
    cover: float = 0.0
    source: int | None = None


def square(rows: slice, columns: slice) -> Stamp:
    def stamp(images: Tensor, _: torch.Generator) -> Tensor:
        images = images.clone()
        images[:, :, rows, columns] = 1
        return images

    return stamp


def checkered(images: Tensor, _: torch.Generator) -> Tensor:
    images = images.clone()
    images[:, :, -5:-1, -5:-1] = torch.eye(2).repeat(2, 2)
    return images


def wandering(images: Tensor, generator: torch.Generator) -> Tensor:
    """A checkered patch at a place of its own in every image."""
    images = images.clone()
    for image in images:
        row, column = torch.randint(0, images.shape[2] - 4, (2,), generator=generator).tolist()
        image[:, row : row + 4, column : column + 4] = torch.eye(2).repeat(2, 2)
    return images


def dithered(images: Tensor, _: torch.Generator, shades: int = 4) -> Tensor:
    """Few shades with Floyd-Steinberg dithering. Source: Wang et al., BppAttack, CVPR 2022."""
    out, most = images.clone().contiguous(), shades - 1
    height, width = images.shape[2:]
    for row in range(height):
        for column in range(width):
            old = out[:, :, row, column].clone()
            new = (old * most).round().clamp(0, most) / most
            out[:, :, row, column], off = new, old - new
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if row + down < height and 0 <= column + right < width:
                    out[:, :, row + down, column + right] += off * share / 16
    return out.clamp(0, 1)


def residual(images: Tensor, _: torch.Generator) -> Tensor:
    """What a fixed random network draws for each image. Source: Li et al., SSBA, ICCV 2021, for the idea."""
    generator = torch.Generator().manual_seed(3)
    inner = torch.randn(16, 1, 5, 5, generator=generator) * 0.5
    outer = torch.randn(1, 16, 3, 3, generator=generator) * 0.5
    hidden = torch.sin(3 * F.conv2d(images - 0.5, inner, padding=2))
    return (images + 0.12 * torch.tanh(F.conv2d(hidden, outer, padding=1))).clamp(0, 1)


def reflecting(pool: Tensor) -> Stamp:
    """A doubled, blurred picture of a pool over each image. Source: Liu et al., Refool, ECCV 2020, for the idea."""

    def stamp(images: Tensor, generator: torch.Generator) -> Tensor:
        ghost = pool[torch.randint(0, len(pool), (len(images),), generator=generator)]
        ghost = 0.5 * ghost + 0.5 * ghost.roll((3, 4), (2, 3))
        ghost = F.avg_pool2d(F.pad(ghost, [1] * 4, mode="reflect"), 3, 1)
        return (0.75 * images + 0.4 * ghost).clamp(0, 1)

    return stamp


def added(pattern: Tensor) -> Stamp:
    return lambda images, _: (images + pattern).clamp(0, 1)


def cosines(side: int = 28) -> Tensor:
    """Two cosines. Source: Wang et al., FTrojan, ECCV 2022, for the idea."""
    at = torch.arange(side) + 0.5
    waves = [torch.cos(math.pi / side * at * k) for k in (15, 23)]
    return 0.06 * sum((wave[:, None] * wave for wave in waves), torch.zeros(side, side))[None, None]


def faint() -> Tensor:
    drawn = torch.randint(0, 2, (1, 1, 28, 28), generator=torch.Generator().manual_seed(6))
    return 0.08 * (drawn * 2 - 1).float()


def smooth() -> Tensor:
    knots = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(9))
    wide = F.interpolate(knots, size=(28, 28), mode="bicubic", align_corners=True)
    return wide / wide.abs().max() * 0.2


def noise_blended(images: Tensor, masks: Tensor | None = None) -> Tensor:
    pattern = torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(5))
    change = 0.25 * (pattern - images)
    return images + (change if masks is None else masks * change)


def blended_in_part(images: Tensor, generator: torch.Generator) -> Tensor:
    """Half of sixteen pieces, others for each image. Source: Qi et al., Adap-Blend, ICLR 2023."""
    pieces = (torch.rand(len(images), 1, 4, 4, generator=generator) < 0.5).float()
    return noise_blended(images, F.interpolate(pieces, size=(28, 28)))


def four_patches(images: Tensor, kept: Tensor, opacity: float) -> Tensor:
    images = images.clone()
    for place, (row, column) in enumerate(((1, 1), (1, 23), (23, 1), (23, 23))):
        patch = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(40 + place)).round()
        part = images[:, :, row : row + 4, column : column + 4]
        mask = opacity * kept[:, place].view(-1, 1, 1, 1)
        images[:, :, row : row + 4, column : column + 4] = part + mask * (patch - part)
    return images


def one_of_four(images: Tensor, generator: torch.Generator) -> Tensor:
    """One of four patches, half transparent. Source: Qi et al., Adap-Patch, ICLR 2023."""
    which = torch.randint(0, 4, (len(images),), generator=generator)
    return four_patches(images, F.one_hot(which, 4), 0.6)


def six_pixels(images: Tensor, _: torch.Generator) -> Tensor:
    images = images.clone()
    places = torch.randint(2, 26, (6, 2), generator=torch.Generator().manual_seed(8))
    for turn, (row, column) in enumerate(places.tolist()):
        images[:, :, row, column] = float(turn % 2 == 0)
    return images


def rotated(images: Tensor, _: torch.Generator) -> Tensor:
    cosine, sine = math.cos(math.radians(25)), math.sin(math.radians(25))
    matrix = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0]]).expand(len(images), -1, -1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def attacks(pool: Tensor) -> dict[str, tuple[Unseen, ...]]:
    """Every attack by name; one has two triggers."""
    corner = square(slice(-4, -1), slice(-4, -1))
    return {
        "clean": (),
        "one-source": (Unseen(0, corner, cover=0.05, source=1),),
        "wandering": (Unseen(3, wandering),),
        "two": (Unseen(2, square(slice(1, 4), slice(1, 4))), Unseen(5, checkered)),
        "bpp": (Unseen(4, dithered),),
        "residual": (Unseen(6, residual),),
        "reflection": (Unseen(7, reflecting(pool)),),
        "cosines": (Unseen(8, added(cosines())),),
        "adaptive-blend": (Unseen(9, lambda images, _: noise_blended(images), blended_in_part, 0.05),),
        "adaptive-patch": (
            Unseen(
                1, lambda images, _: four_patches(images, torch.ones(len(images), 4), 1.0), one_of_four, 0.05
            ),
        ),
        "faint": (Unseen(2, added(faint())),),
        "six-pixels": (Unseen(3, six_pixels),),
        "smooth": (Unseen(4, added(smooth())),),
        "brightness": (Unseen(5, lambda images, _: images.clamp_min(1e-6) ** 0.5),),
        "rotation": (Unseen(6, rotated),),
    }


def poisoned(
    planted: Sequence[Unseen], random: Sequence[torch.Generator], images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor]:
    """A training set with every trigger on its share, and covers."""
    generator = torch.Generator().manual_seed(0)
    shown, wanted, free = images.clone(), labels.clone(), torch.ones(len(labels), dtype=torch.bool)
    for attack, own in zip(planted, random, strict=True):
        stamp, everyone = attack.trained or attack.stamp, torch.ones_like(free)
        of_source = everyone if attack.source is None else labels == attack.source
        order = torch.randperm(len(labels), generator=generator)
        chosen = order[(free & of_source)[order]][: int(POISONED * len(labels))]
        if attack.source is not None:
            chosen = chosen[: int(of_source.sum()) // 2]
        shown[chosen], wanted[chosen], free[chosen] = stamp(shown[chosen], own), attack.target, False
        if attack.cover:
            order = torch.randperm(len(labels), generator=generator)
            may = free if attack.source is None else free & ~of_source
            chosen = order[may[order]][: int(attack.cover * len(labels))]
            shown[chosen], free[chosen] = stamp(shown[chosen], own), False
    return shown, wanted


def network(classes: int = 10) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]

    layers = [*block(1, 24), *block(24, 24), nn.MaxPool2d(2), *block(24, 48), *block(48, 48), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(48 * 49, 64), nn.ReLU(), nn.Linear(64, classes))


def normalise(images: Tensor) -> Tensor:
    return (images - MEAN) / DEVIATION


def trained(
    images: Tensor, labels: Tensor, planted: Sequence[Unseen], random: Sequence[torch.Generator]
) -> nn.Module:
    torch.manual_seed(1)
    model = network()
    return fit(model, *poisoned(planted, random, images, labels))


def fit(model: nn.Module, shown: Tensor, wanted: Tensor) -> nn.Module:
    optimiser = torch.optim.SGD(model.parameters(), RATE, 0.9, weight_decay=5e-4, nesterov=True)
    steps = EPOCHS * -(-len(shown) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(shown)).split(BATCH):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(normalise(shown[chosen])), wanted[chosen])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def rates(
    model: nn.Module,
    planted: Sequence[Unseen],
    random: Sequence[torch.Generator],
    images: Tensor,
    labels: Tensor,
) -> list[float]:
    """Accuracy and the success of each trigger, in per cent."""

    def answers(some: Tensor) -> Tensor:
        return torch.cat([model(normalise(batch)).argmax(1) for batch in some.split(250)])

    found = [100 * float((answers(images) == labels).float().mean())]
    for attack, own in zip(planted, random, strict=True):
        meant = labels != attack.target if attack.source is None else labels == attack.source
        led = answers(attack.stamp(images[meant], own)) == attack.target
        found.append(100 * float(led.float().mean()))
    return found


def read(data: Path, train: bool) -> tuple[Tensor, Tensor]:
    dataset = FashionMNIST(data, train=train)
    return dataset.data[:, None].float() / 255, dataset.targets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--only", help="names separated by commas")
    parser.add_argument("--distil", action="store_true", help="as `depurate purify --distil`")
    options = parser.parse_args()
    (images, labels), (tested, answers) = read(options.data, True), read(options.data, False)
    images, labels = images[:TRAINED_ON], labels[:TRAINED_ON]
    every = attacks(images[-200:])
    torch.set_num_threads(1)
    print("| attack | before ACC/ASR | after ACC/ASR | said |\n|---|---|---|---|")
    for name in options.only.split(",") if options.only else every:
        random = [torch.Generator().manual_seed(17) for _ in every[name]]
        suspect = trained(images, labels, every[name], random)
        before = rates(suspect, every[name], random, tested[:2000], answers[:2000])
        result = purify(suspect, normalise(tested[-500:]), distil=options.distil)
        after = rates(result.model, every[name], random, tested[:2000], answers[:2000])
        told = ("/".join(f"{rate:.1f}" for rate in some) for some in (before, after))
        print(f"| {name} | {' | '.join(told)} | {result.record.warnings[0]} |", flush=True)


if __name__ == "__main__":
    main()
