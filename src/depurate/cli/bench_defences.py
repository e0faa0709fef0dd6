"""`depurate bench defences` and `depurate bench adopt`."""

from __future__ import annotations

from pathlib import Path

import typer

from depurate.bench.defences.adopt import adopt
from depurate.bench.defences.images import BENIGN, read_pixels
from depurate.bench.defences.leaderboard import write_leaderboard
from depurate.bench.defences.run import Plan, run
from depurate.bench.defences.spec import split_specs
from depurate.devices import device_named
from depurate.errors import InputError


def plan_of(
    zoo: Path,
    data: Path,
    out: Path,
    models: str,
    defences: str,
    noise: str,
    labels: str,
    images: int,
    seed: int,
    limit: float,
    threads: int,
    redo: str = "",
    device: str = "cpu",
) -> Plan:
    """Make a plan of what the command was given.

    Raises:
        InputError: The numbers of labels are no numbers, or there is no such device.
    """
    try:
        counts = tuple(int(count) for count in labels.split(","))
    except ValueError as error:
        raise InputError(f"--labels {labels}: expected numbers such as 500,2500") from error
    if not all(1 <= count <= BENIGN for count in (*counts, images)):
        raise InputError(f"--labels {labels}, --images {images}: expected numbers from 1 to {BENIGN}")
    device_named(device)
    names = tuple(filter(None, models.split(",")))
    again = tuple(filter(None, redo.split(",")))
    specs = split_specs(noise), split_specs(defences)
    return Plan(zoo, data, out, names, *specs, counts, images, seed, limit, threads, again, device)


def run_defences(plan: Plan) -> int:
    """Run what has no record yet and write the leaderboard of all records of the zoo's networks and these images.

    Args:
        plan: What to run.

    Returns:
        Exit code: 0, or 1 when a job left no record.

    Raises:
        InputError: The plan cannot be carried out.
    """
    outcome = run(plan, lambda line: typer.echo(line, err=True))
    for job, reason in outcome.failed:
        typer.echo(f"no record: {job.file}: {reason}", err=True)
    if outcome.outdated:
        typer.echo(f"{outcome.outdated} records of other networks or images are left out", err=True)
    if outcome.records:
        write_leaderboard(outcome.records, plan.out)
        typer.echo((plan.out / "leaderboard.md").read_text(encoding="utf-8"))
    return 1 if outcome.failed else 0


def run_adopt(
    suspect: Path,
    anchor: Path,
    name: str,
    dataset: str,
    architecture: str,
    attack: str | None,
    data: Path,
    zoo: Path,
    *,
    force: bool,
) -> None:
    """Write a checkpoint as an entry of a zoo and say what it does."""
    split = read_pixels(dataset, data).split(0)
    record = adopt(
        name,
        suspect=suspect,
        anchor=anchor,
        dataset=dataset,
        architecture=architecture,
        attack=attack,
        split=split,
        zoo=zoo,
        source=suspect.name,
        force=force,
    )
    success = "" if record.success is None else f", attack success {100 * record.success:.1f} %"
    typer.echo(f"{zoo / name}: accuracy {100 * record.accuracy:.1f} %{success}")
