"""Sweeps: all unfinished cases of some studies through joblib, each record kept as soon as its run is done."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import torch

from depurate.reproduce.records import read_record, write_record
from depurate.reproduce.study import Record, Study

Progress = Callable[[str, int, int], None]


def sweep(
    studies: Sequence[Study], folder: Path, *, jobs: int, backend: str = "loky", progress: Progress
) -> None:
    """Run what is not finished; interrupted, it goes on from the records when started again.

    Args:
        studies: Whose cases to run.
        folder: Where records are kept.
        jobs: Runs at a time.
        backend: Of joblib; workers of a cluster need not share the folder.
        progress: Called with (what, runs done, runs in all), finished ones counted.

    Raises:
        InputError: A record cannot be read or written.
    """
    cases = [(study, case) for study in studies for case in study.cases]
    todo = [(study, case) for study, case in cases if read_record(folder, study, case) is None]
    done = len(cases) - len(todo)
    progress("runs", done, len(cases))
    for position, record in _outcomes(todo, jobs, backend):
        study, case = todo[position]
        write_record(folder, study, case, record)
        done += 1
        progress("runs", done, len(cases))


def _outcomes(todo: Sequence[tuple[Study, Any]], jobs: int, backend: str) -> Iterable[tuple[int, Record]]:
    calls = [
        joblib.delayed(run_case)(position, study.name, study.config(case), study.run, case)
        for position, (study, case) in enumerate(todo)
    ]
    if backend == "loky":
        if jobs == 1:
            return (call(*arguments, **options) for call, arguments, options in calls)
        return joblib.Parallel(n_jobs=jobs, return_as="generator_unordered")(calls)  # type: ignore[no-any-return]
    return _in_rounds(calls, backend, jobs)


def _in_rounds(calls: Sequence[Any], backend: str, jobs: int) -> Iterable[tuple[int, Record]]:
    """Backends of clusters return nothing before all is done, so that records are kept round by round."""
    size = max(1, 4 * jobs)
    for start in range(0, len(calls), size):
        with joblib.parallel_config(backend=backend):
            yield from joblib.Parallel(n_jobs=-1)(calls[start : start + size])


def run_case(
    position: int, study: str, config: dict[str, Any], run: Callable[[Any], dict[str, Any]], case: Any
) -> tuple[int, Record]:
    """Run one case on one thread, so that its numbers depend on nothing but its config.

    Args:
        position: Handed back, to tell which run this was.
        study: Name of the study.
        config: Of the case.
        run: The study's function.
        case: What it is given.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started, busy = time.perf_counter(), time.process_time()
    try:
        results = run(case)
    finally:
        torch.set_num_threads(threads)
    seconds, processor = time.perf_counter() - started, time.process_time() - busy
    versions = {
        "depurate": version("depurate"),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    return position, Record(study, config, results, seconds, processor, versions)
