"""The bench itself: networks × contaminations × defences, resumable, one process and one record each."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from depurate.bench.defences.images import Pixels, save_split
from depurate.bench.defences.present import Present, look
from depurate.bench.defences.record import Job, Record, read_bench_record
from depurate.bench.defences.spec import parse_defence
from depurate.contamination import parse_noise
from depurate.errors import InputError
from depurate.text_files import make_folder, write_text
from depurate.zoo import read_record

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What to run.

    Attributes:
        zoo: Folder of networks.
        data: Folder of datasets.
        out: Folder of records; made if missing.
        models: Names of networks in the zoo, wildcards allowed.
        contaminations: Noise specs, each put on every clean network.
        defences: Specs.
        labels: Numbers of labelled images; each defence that needs labels runs with each number.
        images: Unlabelled images for the defences that need them.
        seed: Of the split and of every random choice.
        limit: Seconds a defence may take.
        threads: For every process.
        redo: Names of defences to run again although there is a record, as after a change of their code.
        device: Where defences work, `cpu` or `cuda`.
    """

    zoo: Path
    data: Path
    out: Path
    models: tuple[str, ...] = ("*",)
    contaminations: tuple[str, ...] = ()
    defences: tuple[str, ...] = ("ft", "clp", "depurate")
    labels: tuple[int, ...] = (500,)
    images: int = 500
    seed: int = 0
    limit: float = 3600.0
    threads: int = 1
    redo: tuple[str, ...] = ()
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        finished: Jobs with a record, those of earlier runs included.
        reused: How many of them were there before.
        failed: Jobs without one, each with the reason.
        records: All there are of networks and images as they are now, also of jobs that were not asked for this time.
        outdated: How many there are of other networks or images.
    """

    finished: int
    reused: int
    failed: tuple[tuple[Job, str], ...]
    records: tuple[Record, ...]
    outdated: int


def jobs_of(plan: Plan, present: Present) -> tuple[Job, ...]:
    """List the jobs of a plan: backdoored networks as they are, clean ones as they are and under every noise.

    Args:
        plan: What to run.
        present: What its networks and images are.

    Raises:
        InputError: No network matches, or a defence is not understood.
    """
    found: list[Job] = []
    for name in _models(plan):
        entry = read_record(plan.zoo / name / "record.json")
        made_of = present.networks[name], present.pixels[entry.dataset]
        for contamination in (None, *(plan.contaminations if entry.attack is None else ())):
            for spec in plan.defences:
                needs = parse_defence(spec).needs
                images = plan.images if "images" in needs else 0
                counts = plan.labels if "labels" in needs else (0,)
                found += [Job(name, contamination, spec, n, images, plan.seed, *made_of) for n in counts]
    return tuple(found)


def run(plan: Plan, tell: Tell = lambda line: None) -> Outcome:
    """Run every job that has no record yet, or whose record was made of another network or other images.

    Args:
        plan: What to run.
        tell: Called with a line at a time.

    Returns:
        How many finished, which failed, and all records.

    Raises:
        InputError: The plan cannot be carried out at all.
    """
    present, jobs, waiting, images = _prepare(plan)
    failed: list[tuple[Job, str]] = []
    started = time.perf_counter()
    tell(f"{len(jobs)} jobs, {len(jobs) - len(waiting)} with a record already")
    for turn, job in enumerate(waiting, start=1):
        try:
            words = _words(_run(plan, job, images[job.pixels]))
        except InputError as error:
            words = str(error)
            failed.append((job, words))
        left = (time.perf_counter() - started) / turn * (len(waiting) - turn)
        tell(f"[{turn}/{len(waiting)}, about {left / 60:.0f} min left] {_title(job)}: {words}")
    found = read_records(plan.out)
    records = present.current(found)
    reused = len(jobs) - len(waiting)
    return Outcome(len(jobs) - len(failed), reused, tuple(failed), records, len(found) - len(records))


def read_records(out: Path) -> tuple[Record, ...]:
    """Read every record of a bench folder, in the order of their names."""
    return tuple(read_bench_record(path) for path in sorted((out / "records").glob("*.json")))


def _prepare(plan: Plan) -> tuple[Present, Sequence[Job], Sequence[Job], Mapping[str, Path]]:
    """Say what there is, which jobs there are, which of them are to be run, and where their images lie."""
    for spec in plan.contaminations:
        parse_noise(spec)
    for spec in plan.defences:
        parse_defence(spec)
    models = _models(plan)
    make_folder(plan.out / "records")
    found = read_records(plan.out)
    present, pixels = look(plan.zoo, plan.data, plan.out, models, found)
    jobs = jobs_of(plan, present)
    there = {row.job for row in present.current(found) if row.job.defence.partition(":")[0] not in plan.redo}
    waiting = [job for job in jobs if job not in there]
    return present, jobs, waiting, _images(plan, present, waiting, pixels)


def _models(plan: Plan) -> tuple[str, ...]:
    there = sorted(path.parent.name for path in plan.zoo.glob("*/record.json"))
    if not there:
        raise InputError(
            f"{plan.zoo}: {'holds no networks of a zoo' if plan.zoo.is_dir() else 'no such folder'}; "
            "depurate zoo all trains some"
        )
    for pattern in plan.models:
        if not fnmatch.filter(there, pattern):
            raise InputError(f"{plan.zoo}: no network {pattern!r}; there are {', '.join(there)}")
    return tuple(name for name in there if any(fnmatch.fnmatch(name, pattern) for pattern in plan.models))


def _images(
    plan: Plan, present: Present, waiting: Sequence[Job], pixels: Mapping[str, Pixels]
) -> dict[str, Path]:
    """Write the images that jobs need where they are not there yet, and give their files by the test set's digest."""
    needed, files = {job.pixels for job in waiting}, {}
    for dataset, digest in present.pixels.items():
        files[digest] = plan.out / "images" / f"{dataset}-{digest[:16]}-seed-{plan.seed}.safetensors"
        if digest in needed and not files[digest].exists():
            save_split(pixels[dataset].split(plan.seed), files[digest])
    return files


def _run(plan: Plan, job: Job, images: Path) -> Record:
    """Run one job in a process of its own and write its record.

    Raises:
        InputError: There is none, and why.
    """
    path = plan.out / "records" / job.file
    _set_aside(path)
    with tempfile.TemporaryDirectory() as folder:
        task, out = Path(folder) / "task.json", Path(folder) / "record.json"
        asked = {"job": asdict(job), "zoo": str(plan.zoo), "images": str(images), "out": str(out)}
        task.write_text(
            json.dumps(asked | {"threads": plan.threads, "device": plan.device}), encoding="utf-8"
        )
        _work(plan, task)
        record = read_bench_record(out)
    write_text(path, record.to_json())
    return record


def _set_aside(path: Path) -> None:
    """Rename a record that is asked for anew: it must not pass for the answer if there is none this time."""
    try:
        path.replace(path.with_suffix(".old"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path}: cannot be renamed ({error})") from error


def _work(plan: Plan, task: Path) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(plan.threads))
    command = [sys.executable, "-m", "depurate.bench.defences.worker", str(task)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=plan.limit, env=environment)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"stopped after {plan.limit:.0f} s") from error
    if done.returncode:
        raise InputError((done.stderr.strip().splitlines() or ["failed"])[-1][:300])


def _title(job: Job) -> str:
    noise = f" + {job.contamination}" if job.contamination else ""
    return f"{job.model}{noise}, {job.defence}{f' ({job.labels} labels)' if job.labels else ''}"


def _words(record: Record) -> str:
    def shown(accuracy: float, success: float | None) -> str:
        return f"{100 * accuracy:.1f}" + ("" if success is None else f"/{100 * success:.1f}")

    assert record.after is not None
    before = shown(record.before.accuracy, record.before.success)
    after = shown(record.after.accuracy, record.after.success)
    return f"{before} -> {after} in {record.seconds:.0f} s"
