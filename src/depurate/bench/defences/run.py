"""The bench itself: networks × contaminations × defences, resumable, one process and one record each."""

from __future__ import annotations

import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from depurate.bench.defences.images import read_pixels, save_split
from depurate.bench.defences.record import Job, Record, read_bench_record
from depurate.bench.defences.spec import parse_defence
from depurate.checkpoints import file_sha256
from depurate.contamination import parse_noise
from depurate.errors import InputError
from depurate.text_files import make_folder
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
    """

    finished: int
    reused: int
    failed: tuple[tuple[Job, str], ...]


def jobs_of(plan: Plan) -> tuple[Job, ...]:
    """List the jobs of a plan: backdoored networks as they are, clean ones as they are and under every noise.

    Raises:
        InputError: No network matches, or a spec is not understood.
    """
    for spec in plan.contaminations:
        parse_noise(spec)
    found: list[Job] = []
    for name in _models(plan):
        folder = plan.zoo / name
        suspect = file_sha256(folder / "suspect.safetensors")
        clean = read_record(folder / "record.json").attack is None
        for contamination in (None, *(plan.contaminations if clean else ())):
            for spec in plan.defences:
                needs = parse_defence(spec).needs
                images = plan.images if "images" in needs else 0
                counts = plan.labels if "labels" in needs else (0,)
                found += [Job(name, contamination, spec, n, images, plan.seed, suspect) for n in counts]
    return tuple(found)


def run(plan: Plan, tell: Tell = lambda line: None) -> Outcome:
    """Run every job that has no record yet.

    Args:
        plan: What to run.
        tell: Called with a line at a time.

    Returns:
        How many finished, and which failed.

    Raises:
        InputError: The plan cannot be carried out at all.
    """
    make_folder(plan.out / "records")
    jobs = jobs_of(plan)
    waiting = [job for job in jobs if not _done(plan, job)]
    failed: list[tuple[Job, str]] = []
    started = time.perf_counter()
    tell(f"{len(jobs)} jobs, {len(jobs) - len(waiting)} with a record already")
    for turn, job in enumerate(waiting, start=1):
        note = _measure(plan, job, _split_file(plan, job))
        if note:
            failed.append((job, note))
        words = note or _words(read_bench_record(plan.out / "records" / job.file))
        left = (time.perf_counter() - started) / turn * (len(waiting) - turn)
        tell(f"[{turn}/{len(waiting)}, about {left / 60:.0f} min left] {_title(job)}: {words}")
    return Outcome(len(jobs) - len(failed), len(jobs) - len(waiting), tuple(failed))


def read_records(out: Path) -> tuple[Record, ...]:
    """Read every record of a bench folder, in the order of their names."""
    return tuple(read_bench_record(path) for path in sorted((out / "records").glob("*.json")))


def _models(plan: Plan) -> tuple[str, ...]:
    there = sorted(path.parent.name for path in plan.zoo.glob("*/record.json"))
    for pattern in plan.models:
        if not fnmatch.filter(there, pattern):
            raise InputError(f"{plan.zoo}: no network {pattern!r}; there are {', '.join(there) or 'none'}")
    return tuple(name for name in there if any(fnmatch.fnmatch(name, pattern) for pattern in plan.models))


def _done(plan: Plan, job: Job) -> bool:
    path = plan.out / "records" / job.file
    if job.defence.partition(":")[0] in plan.redo:
        return False
    return path.exists() and read_bench_record(path).job == job


def _split_file(plan: Plan, job: Job) -> Path:
    dataset = read_record(plan.zoo / job.model / "record.json").dataset
    path = plan.out / "images" / f"{dataset}-seed-{job.seed}.safetensors"
    if not path.exists():
        save_split(read_pixels(dataset, plan.data).split(job.seed), path)
    return path


def _measure(plan: Plan, job: Job, images: Path) -> str:
    """Run one job in a process of its own; returns why it failed, or nothing."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(plan.threads))
    task = {
        "job": asdict(job),
        "zoo": str(plan.zoo),
        "images": str(images),
        "out": str(plan.out / "records" / job.file),
        "threads": plan.threads,
        "device": plan.device,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task.json"
        path.write_text(json.dumps(task), encoding="utf-8")
        command = [sys.executable, "-m", "depurate.bench.defences.worker", str(path)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=plan.limit, env=environment
            )
        except subprocess.TimeoutExpired:
            return f"stopped after {plan.limit:.0f} s"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["failed"])[-1][:300]


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
