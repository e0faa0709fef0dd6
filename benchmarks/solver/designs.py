"""Patch matrices of real networks as designs of the solver benchmark.

    python benchmarks/solver/designs.py --data DATA --models MODELS --out DESIGNS
    depurate bench solver --design DESIGNS/lenet-conv2.npz --design DESIGNS/resnet-L4.npz ...

DATA holds torchvision's MNIST folder and cifar10/test.zip, MODELS the trained checkpoints, as for
benchmarks/purification.py. Every design is the patches that one convolution sees at random positions of random test
images, a fifth as many as its fan-in, so that its columns span what training could have changed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from depurate.checkpoints import load_state, read_checkpoint, read_labelled

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import lenet, resnet14

IMAGES, SHARE = 100, 0.2


def patches(network: nn.Module, layer: str, images: Tensor) -> Tensor:
    """Collect random patches of one convolution: shape (fan-in, columns); a row of ones where it has a bias."""
    conv = network.get_submodule(layer)
    assert isinstance(conv, nn.Conv2d)
    seen: list[Tensor] = []
    handle = conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network.eval()(images)
    handle.remove()
    flat = unfold(seen[0], conv.kernel_size, padding=conv.padding, stride=conv.stride)
    columns = flat.permute(1, 0, 2).flatten(1)
    if conv.bias is not None:
        columns = torch.cat([columns, torch.ones_like(columns[:1])])
    chosen = torch.randperm(columns.shape[1], generator=torch.Generator().manual_seed(0))
    return columns[:, chosen[: int(SHARE * columns.shape[0])]]


def trained(network: nn.Module, path: Path) -> nn.Module:
    return load_state(network, read_checkpoint(path), source=str(path))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    digits, _ = read_labelled("torchvision:MNIST", data_root=options.data, limit=IMAGES)
    photos, _ = read_labelled(options.data / "cifar10" / "test.zip", limit=IMAGES)
    digit_net = trained(lenet(), options.models / "lenet-mnist" / "clean.safetensors")
    photo_net = trained(resnet14(), options.models / "resnet14-cifar10" / "badnets.safetensors")
    for name, network, layer, images in (
        ("lenet-conv2", digit_net, "3", digits),
        ("resnet-L3.c1", photo_net, "L.3.c1", (photos - 0.47) / 0.25),
        ("resnet-L5.c2", photo_net, "L.5.c2", (photos - 0.47) / 0.25),
    ):
        design = patches(network, layer, images).double().numpy()
        values = np.linalg.svd(design, compute_uv=False)
        print(f"{name}: {design.shape[0]}×{design.shape[1]}, condition {values[0] / values[-1]:.1e}")
        np.savez(options.out / f"{name}.npz", design=design)


if __name__ == "__main__":
    main()
