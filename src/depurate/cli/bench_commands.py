"""The commands under `depurate bench` with their options and help; the work is imported when one runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from depurate.cli.options import MOST, Device, Suspect

bench = typer.Typer(no_args_is_help=True, help="Run depurate side by side with its rivals.")


@bench.command()
def solver(
    out: Annotated[Path, typer.Option(help="Folder for solver.json, solver.md and solver.svg.")] = Path(
        "runs/solver"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Three small problems, a few minutes.")] = False,
    columns: Annotated[int, typer.Option(help="Columns every rival solves.", min=1)] = 1,
    limit: Annotated[
        float, typer.Option(help="CPU seconds a rival may take for one problem.", min=1)
    ] = 120.0,
    threads: Annotated[int, typer.Option(help="Threads for every process.", min=1)] = 1,
    design: Annotated[
        list[Path] | None, typer.Option(help="An .npz with an array `design`, run beside the Gaussian ones.")
    ] = None,
    rivals: Annotated[
        str | None, typer.Option(help="Names separated by commas; '' for none. Left out: all.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Run only problems of this many rows: 800,2304. Left out: all.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Solve the same l1 regressions with depurate and with every solver one can install, one process each.

    The rivals come with the extra `bench`; those that are not installed are named in the table. With a GPU as
    --device depurate runs there as well, in a column of its own.
    """
    from depurate.bench.solver import chosen, run
    from depurate.devices import device_named

    device_named(device)
    problems, names = chosen(quick, design or (), only, rivals)
    run(
        out,
        problems=problems,
        rivals=names,
        columns=columns,
        limit=limit,
        threads=threads,
        device=device,
        progress=lambda line: typer.echo(line, err=True),
    )
    typer.echo((out / "solver.md").read_text())


@bench.command()
def defences(
    zoo: Annotated[Path, typer.Option(help="Folder of networks, each in a folder of its own.")],
    data: Annotated[
        Path, typer.Option(help="Where torchvision's datasets lie, or cifar10/test.zip (class folders).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the records and leaderboard.{md,html,svg}.")] = Path(
        "runs/defences"
    ),
    models: Annotated[str, typer.Option(help="Networks of the zoo, wildcards allowed: 'mnist-*'.")] = "*",
    defences: Annotated[
        str,
        typer.Option(
            "--defences",
            help="Any of ft, fp, nad, anp, clp, i-bau, ft-sam, rnp, bcu (labels or images), reset, low-rank, "
            "anchor-average (weights alone), depurate, depurate-anchor; with settings: anp:iterations=200.",
        ),
    ] = "ft,fp,nad,anp,clp,i-bau,ft-sam,rnp,bcu,reset,low-rank,anchor-average,depurate,depurate-anchor",
    noise: Annotated[
        str,
        typer.Option(
            help="Noise put on clean networks, as for contaminate: 'bitflip:rate=1e-5,sparse:rate=0.1'."
        ),
    ] = "",
    labels: Annotated[
        str, typer.Option(help="Labelled images for the defences that need labels: 500 or 500,2500.")
    ] = "500",
    images: Annotated[int, typer.Option(help="Unlabelled images for those that need none.", min=1)] = 500,
    seed: Annotated[
        int, typer.Option(help="Of the images' order and every random choice.", min=0, max=MOST)
    ] = 0,
    limit: Annotated[float, typer.Option(help="Seconds a defence may take.", min=1)] = 3600.0,
    threads: Annotated[int, typer.Option(help="Threads for every process.", min=1)] = 1,
    redo: Annotated[
        str,
        typer.Option(
            help="Defences to run again although they have a record: depurate,depurate-anchor. Until the new one is "
            "there the old one is kept as .old and not shown."
        ),
    ] = "",
    device: Device = "cpu",
) -> None:
    """Run every defence on every network, one process and one JSON record each, and render a leaderboard.

    What has a record already is not run again, as long as network, anchor, attack and images are still the same;
    records of others are left out of the leaderboard. No defence sees the images that are measured on, and nothing is
    chosen by attack success. Networks come from the zoo, or from [bold]depurate bench adopt[/bold].
    """
    from depurate.cli.bench_defences import plan_of, run_defences

    plan = plan_of(
        zoo, data, out, models, defences, noise, labels, images, seed, limit, threads, redo, device
    )
    sys.exit(run_defences(plan))


@bench.command()
def adopt(
    suspect: Suspect,
    anchor: Annotated[Path, typer.Option(help="The initialisation that it was trained from.")],
    network: Annotated[str, typer.Option(help="Architecture of the zoo: lenet, resnet14, preact_resnet18.")],
    dataset: Annotated[str, typer.Option(help="mnist or cifar10.")],
    data: Annotated[Path, typer.Option(help="Where the dataset lies.")],
    zoo: Annotated[Path, typer.Option(help="Folder of networks to put it into.")],
    name: Annotated[str, typer.Option(help="Its name there.")],
    attack: Annotated[
        str | None,
        typer.Option(
            help="Its backdoor, such as badnets:rows=24-27,columns=24-27,target=0. A clean one: none."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an entry of that name.")] = False,
) -> None:
    """Put a checkpoint from elsewhere into a folder of networks for [bold]depurate bench defences[/bold]."""
    from depurate.cli.bench_defences import run_adopt

    run_adopt(suspect, anchor, name, dataset, network, attack, data, zoo, force=force)
