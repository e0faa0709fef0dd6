"""`reproduce`: the experiments of the paper, run or resumed, drawn and explained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depurate.errors import InputError
from depurate.reproduce import cifar, mnist, synthetic
from depurate.reproduce.cluster import connected
from depurate.reproduce.page import write_results
from depurate.reproduce.study import Study
from depurate.reproduce.sweep import Progress, sweep
from depurate.text_files import make_folder

EXPERIMENTS = ("synthetic", "mnist", "cifar10")


@dataclass(frozen=True)
class Settings:
    """What to reproduce, and how.

    Attributes:
        experiment: One of `EXPERIMENTS`.
        out: Folder for records, figures and the page; made if missing.
        quick: Small sizes, for continuous integration.
        seeds: Independent runs a cell; None for the experiment's own.
        jobs: Runs at a time on this machine; None for one a core.
        cluster: `dask://HOST:PORT`, `ray://HOST:PORT` or None.
        only: Names of studies; empty for all.
        draw_only: Run nothing, draw what is finished.
        data: Folder of datasets; None for the environment's DEPURATE_DATA.
        models: Folder of checkpoints to use instead of training; None for the environment's DEPURATE_MODELS.
    """

    experiment: str
    out: Path
    quick: bool = False
    seeds: int | None = None
    jobs: int | None = None
    cluster: str | None = None
    only: Sequence[str] = ()
    draw_only: bool = False
    data: Path | None = None
    models: Path | None = None


def reproduce(
    settings: Settings, progress: Progress, command: str = "depurate reproduce"
) -> tuple[Path, ...]:
    """Run an experiment of the paper, or what is left of it, and write its figures and page.

    Args:
        settings: What and how.
        progress: Called with (what, runs done, runs in all).
        command: Said on the page.

    Returns:
        The files written, the page first.

    Raises:
        InputError: A setting cannot be used, or a file cannot be read or written.
    """
    chosen = _studies(settings)
    make_folder(settings.out)
    if not settings.draw_only:
        with connected(settings.cluster, settings.jobs or os.cpu_count() or 1) as workers:
            sweep(chosen, settings.out, jobs=workers.jobs, backend=workers.backend, progress=progress)
    title = f"The paper, reproduced: {settings.experiment}{' (quick)' if settings.quick else ''}"
    return write_results(title, chosen, settings.out, command)


def _studies(settings: Settings) -> tuple[Study, ...]:
    if settings.experiment not in EXPERIMENTS:
        raise InputError(f"experiment: {settings.experiment!r}; expected one of {', '.join(EXPERIMENTS)}")
    if settings.experiment == "synthetic":
        every = synthetic.studies(quick=settings.quick, seeds=settings.seeds)
    elif settings.experiment == "cifar10":
        models = _models(settings)
        # Workers of a cluster need not share this machine's folders.
        kept = None if settings.cluster else settings.out.resolve() / "networks"
        every = cifar.studies(_data(settings), models, kept, quick=settings.quick, seeds=settings.seeds)
    else:
        every = mnist.studies(_data(settings), quick=settings.quick, seeds=settings.seeds)
    names = {study.name for study in every}
    unknown = [name for name in settings.only if name not in names]
    if unknown:
        raise InputError(f"only: {unknown[0]!r}; expected of {', '.join(sorted(names))}")
    return tuple(study for study in every if not settings.only or study.name in settings.only)


def _data(settings: Settings) -> Path:
    """The folder of datasets.

    Raises:
        InputError: None was given, or it is not there.
    """
    named = settings.data or os.environ.get("DEPURATE_DATA")
    if not named:
        raise InputError(
            f"{settings.experiment} needs real images: give --data FOLDER, or set DEPURATE_DATA, to where torchvision "
            "keeps its datasets"
        )
    folder = Path(named).resolve()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of datasets")
    return folder


def _models(settings: Settings) -> Path | None:
    named = settings.models or os.environ.get("DEPURATE_MODELS")
    if named and not Path(named).is_dir():
        raise InputError(f"{named}: no such folder of checkpoints")
    return Path(named).resolve() if named else None
