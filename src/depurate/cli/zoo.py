"""`depurate zoo`: trains contaminated networks whose attack and anchor are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from depurate.contamination.attacks import parse_attack
from depurate.devices import device_named
from depurate.errors import InputError
from depurate.purification import Progress as Report
from depurate.zoo import Network, Order, Recipe, check_name, fill, network, planned, read_data
from depurate.zoo.recipes import RECIPES

_PRECISIONS = ("float32", "bfloat16")
_NETWORKS = {"mnist": "lenet", "cifar10": "resnet14"}


@dataclass(frozen=True)
class ZooSettings:
    """What to train and how, as given on the command line."""

    dataset: str
    network: str | None
    fraction: float
    seed: int
    data: Path
    out: Path
    epochs: int | None
    images: int | None
    device: str
    precision: str | None
    again: bool


def run_zoo_train(spec: str, name: str | None, settings: ZooSettings) -> None:
    """Train one entry and print what it does.

    Args:
        spec: Of the attack; `clean` for a network without one.
        name: Of the attack in the entry's name; None for the first part of the spec.
        settings: Everything else.

    Raises:
        InputError: Anything about the input.
    """
    attack = None if spec == "clean" else parse_attack(spec)
    check_name(name or spec.partition(":")[0])
    order = Order(
        settings.dataset,
        name or spec.partition(":")[0],
        attack,
        settings.fraction if attack is not None else 0.0,
        settings.seed,
        _recipe(settings),
        settings.device,
    )
    _run([order], settings)


def run_zoo_all(only: str | None, settings: ZooSettings) -> None:
    """Train every entry of a dataset's zoo that is not there yet.

    Args:
        only: Names separated by commas; None for all.
        settings: Everything else.

    Raises:
        InputError: Anything about the input.
    """
    plans = planned(settings.dataset)
    names = [plan.name for plan in plans] if only is None else only.split(",")
    unknown = [name for name in names if name not in {plan.name for plan in plans}]
    if unknown:
        raise InputError(
            f"--only {only}: no {', '.join(unknown)}; there are {', '.join(plan.name for plan in plans)}"
        )
    orders = [
        Order(
            settings.dataset,
            plan.name,
            None if plan.spec is None else parse_attack(plan.spec),
            0.0 if plan.spec is None else plan.fraction or settings.fraction,
            settings.seed,
            _recipe(settings),
            settings.device,
            plan.note,
        )
        for plan in plans
        if plan.name in names
    ]
    _run(orders, settings)


def _recipe(settings: ZooSettings) -> Recipe:
    recipe = RECIPES[_network(settings).name]
    precision = settings.precision or recipe.precision
    if precision not in _PRECISIONS:
        raise InputError(f"--precision {precision}: expected {' or '.join(_PRECISIONS)}")
    return replace(
        recipe,
        epochs=settings.epochs or recipe.epochs,
        images=settings.images or recipe.images,
        precision=precision,
    )


def _network(settings: ZooSettings) -> Network:
    if settings.dataset not in _NETWORKS:
        raise InputError(f"dataset {settings.dataset!r}: the zoo has {', '.join(_NETWORKS)}")
    kind = network(settings.network or _NETWORKS[settings.dataset])
    kind.check_takes(settings.dataset)
    return kind


def _run(orders: list[Order], settings: ZooSettings) -> None:
    device_named(settings.device)
    console, told = Console(), Console(stderr=True)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("entry", no_wrap=True)
    for heading in ("poisoned", "ACC %", "ASR %", "seconds"):
        table.add_column(heading, justify="right")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=told, disable=not told.is_terminal, transient=True) as bars:

        def progress(order: Order) -> Report:
            task = bars.add_task(order.name, total=None)
            return lambda _, done, total: bars.update(task, completed=done, total=total)

        kind, where = _network(settings), settings
        made = fill(
            settings.out,
            orders,
            kind,
            lambda: read_data(where.dataset, where.data),
            again=settings.again,
            progress=progress,
        )
        for filled in made:
            record = filled.entry.record
            success = "-" if record.success is None else f"{100 * record.success:.1f}"
            told.print(
                Text(
                    f"{record.name}: ACC {100 * record.accuracy:.1f}, ASR {success}"
                    + (" (found)" if filled.found else f" ({record.seconds:.0f} s)")
                )
            )
            table.add_row(
                record.name,
                f"{record.fraction:.1%}",
                f"{100 * record.accuracy:.1f}",
                success,
                f"{record.seconds:.0f}",
            )
    console.print(table)
    console.print(Text(f"in {settings.out}"))
