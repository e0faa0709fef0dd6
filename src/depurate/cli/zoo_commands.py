"""The commands under `depurate zoo` with their options and help; the work is imported when one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from depurate.cli.options import Device, Force, Seed

zoo = typer.Typer(no_args_is_help=True, help="Train contaminated networks whose attack and anchor are known.")

ZooDataset = Annotated[str, typer.Option(help="[bold]mnist[/bold] or [bold]cifar10[/bold].")]
ZooNetwork = Annotated[
    str | None,
    typer.Option(help="lenet, resnet14 or preact_resnet18. Left out: lenet for mnist, resnet14 for cifar10."),
]
ZooFraction = Annotated[float, typer.Option(help="Share of the training images to poison.", min=0, max=1)]
ZooData = Annotated[
    Path, typer.Option(help="Where torchvision's datasets lie, or cifar10/train.zip and test.zip.")
]
ZooOut = Annotated[Path, typer.Option(help="Folder for the entries; made if missing.")]
ZooEpochs = Annotated[int | None, typer.Option(help="Left out: as the network's recipe says.", min=1)]
ZooImages = Annotated[
    int | None, typer.Option(help="Training images, the first so many. Left out: the recipe.", min=1)
]
ZooPrecision = Annotated[
    str | None,
    typer.Option(help="float32 or bfloat16 (faster where the processor has it). Left out: the recipe."),
]


@zoo.command("train")
def zoo_train(
    spec: Annotated[
        str, typer.Argument(help="Attack, such as [bold]wanet:strength=1,target=3[/bold]; or clean.")
    ],
    data: ZooData,
    dataset: ZooDataset = "mnist",
    network: ZooNetwork = None,
    fraction: ZooFraction = 0.05,
    seed: Seed = 0,
    out: ZooOut = Path("zoo"),
    name: Annotated[str | None, typer.Option(help="Name within the zoo. Left out: the attack's.")] = None,
    epochs: ZooEpochs = None,
    images: ZooImages = None,
    device: Device = "cpu",
    precision: ZooPrecision = None,
    force: Force = False,
) -> None:
    """Train one network with an attack, and write suspect, anchor, trigger and record into a folder.

    Example: depurate zoo train blended:alpha=0.2 --dataset mnist --data DIR --out zoo
    """
    from depurate.cli.zoo import ZooSettings, run_zoo_train

    settings = ZooSettings(
        dataset, network, fraction, seed, data, out, epochs, images, device, precision, force
    )
    run_zoo_train(spec, name, settings)


@zoo.command("all")
def zoo_all(
    data: ZooData,
    dataset: ZooDataset = "mnist",
    network: ZooNetwork = None,
    fraction: ZooFraction = 0.05,
    seed: Seed = 0,
    out: ZooOut = Path("zoo"),
    only: Annotated[str | None, typer.Option(help="Names of entries, separated by commas.")] = None,
    epochs: ZooEpochs = None,
    images: ZooImages = None,
    device: Device = "cpu",
    precision: ZooPrecision = None,
    force: Force = False,
) -> None:
    """Train every attack of a dataset's zoo that is not in the folder yet, and a clean network.

    Stopping it loses one entry at most; run again, it goes on where it stopped.
    """
    from depurate.cli.zoo import ZooSettings, run_zoo_all

    settings = ZooSettings(
        dataset, network, fraction, seed, data, out, epochs, images, device, precision, force
    )
    run_zoo_all(only, settings)
