"""`lad` against everything that can be installed: who solves how fast, and how exactly."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from depurate.bench.problems import LAWS, MANY, SIZES, Case, make
from depurate.bench.rivals import RIVALS
from depurate.bench.tables import EXACT, figure, table
from depurate.errors import InputError
from depurate.text_files import make_folder


@dataclass(frozen=True)
class Entry:
    """One contender on one problem.

    Attributes:
        contender: `depurate`, `depurate@cuda` (or another device) or a rival's name.
        wall_per_column: Seconds a column.
        cpu_per_column: CPU seconds a column; on a GPU, seconds by the clock.
        excess: Largest relative excess of the loss over that of `depurate` on the same columns.
        note: Empty, or why there is no result; with a time limit, `wall_per_column` is then a lower bound.
        details: Further figures, of `depurate` only.
    """

    contender: str
    wall_per_column: float | None
    cpu_per_column: float | None
    excess: float | None
    note: str
    details: dict[str, float]


@dataclass(frozen=True)
class Comparison:
    """All contenders on one problem."""

    case: Case
    entries: tuple[Entry, ...]

    def ratio(self) -> float | None:
        """CPU seconds a column of the fastest exact rival over ours.

        Exact means a loss within 1e-7 of the optimum; a rival stopped by the limit counts with the limit.
        """
        ours = self.entries[0].cpu_per_column
        rivals = [
            entry.cpu_per_column
            for entry in self.entries
            if not entry.contender.startswith("depurate")
            and entry.cpu_per_column
            and (entry.excess is None or entry.excess <= EXACT)
        ]
        return min(rivals) / ours if ours and rivals else None


def cases(quick: bool, designs: Sequence[Path] = ()) -> tuple[Case, ...]:
    """List the problems: all sizes with two shares, other laws of the noise, many targets; or three small ones."""
    if quick:
        return Case(*SIZES[0], 0.1), Case(*SIZES[1], 0.1), Case(*SIZES[2], 0.3)
    real = [_real(path, share) for path in designs for share in (0.1, 0.3)]
    gaussian = [Case(*size, share) for size in SIZES for share in (0.1, 0.3)]
    others = [Case(*SIZES[3], share, law) for share in (0.2, 0.3) for law in LAWS[1:]]
    return (*gaussian, *others, Case(*SIZES[4], 0.2), MANY, *real)


def chosen(
    quick: bool, designs: Sequence[Path], only: str | None, rivals: str | None
) -> tuple[tuple[Case, ...], tuple[str, ...]]:
    """Pick problems by their rows and rivals by their names, as the command line gives them.

    Raises:
        InputError: There is no such problem or rival.

    >>> problems, rivals = chosen(False, (), "288", "sklearn")
    >>> [case.name for case in problems], rivals
    (['288×58×32, ε = 0.1, gaussian', '288×58×32, ε = 0.3, gaussian'], ('sklearn',))
    """
    every = cases(quick, designs)
    sizes = None if only is None else set(only.split(","))
    kept = tuple(case for case in every if sizes is None or str(case.rows) in sizes)
    if not kept:
        there = ", ".join(map(str, sorted({case.rows for case in every})))
        raise InputError(f"--only {only}: there are problems of {there} rows")
    names = tuple(RIVALS) if rivals is None else tuple(filter(None, rivals.split(",")))
    if not set(names) <= set(RIVALS):
        raise InputError(f"--rivals {rivals}: there are {', '.join(RIVALS)}")
    return kept, names


def _real(path: Path, share: float) -> Case:
    try:
        with np.load(path) as archive:
            design = archive["design"]
            rows, columns = design.shape
            usable = design.dtype.kind in "fiu" and min(rows, columns) > 0 and bool(np.isfinite(design).all())
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected an .npz with a matrix named design ({error})") from error
    if not usable:
        raise InputError(
            f"{path}: design of shape {(rows, columns)}, {design.dtype}: expected finite numbers"
        )
    return Case(rows, columns, 64, share, design=str(path))


def run(
    out: Path,
    *,
    problems: Sequence[Case],
    rivals: Sequence[str],
    columns: int = 1,
    limit: float = 120.0,
    threads: int = 1,
    device: str = "cpu",
    progress: Callable[[str], None] | None = None,
) -> tuple[Comparison, ...]:
    """Run the benchmark and write `solver.json`, `solver.md` and `solver.svg` into `out`.

    Args:
        out: Folder; made if missing.
        problems: From `chosen`, or any others.
        rivals: Names from `RIVALS`.
        columns: Columns every rival solves; its time is that of the fastest.
        limit: CPU seconds a rival may take for one problem; not run where it is expected to take longer.
        threads: Threads every process may use.
        device: A GPU that `depurate` runs on as well, `cuda` or `cuda:N`.
        progress: Called with a line at a time.
    """
    make_folder(out)
    tell = progress or (lambda line: None)
    done: list[Comparison] = []
    # On a GPU first: what else this machine is given to do comes later, if at all.
    own = ("depurate",) if device == "cpu" else (f"depurate@{device}", "depurate")
    for case in problems:
        tell(case.name)
        able = {name: _expected(name, case, done) <= limit for name in rivals}
        done.append(_compare(case, own, able, columns, limit, threads, tell))
        _write(out, done, threads, limit)
    return tuple(done)


def _expected(name: str, case: Case, done: Sequence[Comparison]) -> float:
    """Guess a rival's seconds a column from the same kind of problem at a smaller size, as the cube of the rows."""
    guesses = [
        entry.cpu_per_column * (case.rows / comparison.case.rows) ** 3
        for comparison in done
        for entry in comparison.entries
        if entry.contender == name and entry.cpu_per_column and comparison.case.share == case.share
    ]
    return guesses[-1] if guesses else 0.0


def _write(out: Path, done: Sequence[Comparison], threads: int, limit: float) -> None:
    """Write what there is, so that nothing is lost when a run is stopped."""
    record = {
        "comparisons": [asdict(comparison) for comparison in done],
        "threads": threads,
        "limit": limit,
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    (out / "solver.json").write_text(json.dumps(record, indent=1))
    (out / "solver.md").write_text(table(done))
    figure(done, out / "solver.svg")


def _compare(
    case: Case,
    own: Sequence[str],
    rivals: dict[str, bool],
    columns: int,
    limit: float,
    threads: int,
    tell: Callable[[str], None],
) -> Comparison:
    """Run all contenders on one problem, rivals only where they are expected to end within the limit."""
    design, clean, targets = make(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        np.savez(path, design=design, clean=clean, targets=targets)
        ours = {name: _measure(path, name, columns, None, threads) for name in own}
        best = np.array(ours["depurate"]["losses"][:columns])
        # On the CPU is the entry that all others are held against.
        entries = [_entry(name, ours[name], best, limit) for name in reversed(own)]
        for entry in entries:
            tell(_said(entry))
        for rival, able in rivals.items():
            measured = _measure(path, rival, columns, limit, threads) if able else {"note": "not run"}
            entries.append(_entry(rival, measured, best, limit))
            tell(_said(entries[-1]))
    return Comparison(case, tuple(entries))


def _said(entry: Entry) -> str:
    return f"  {entry.contender}: {entry.note or f'{1e3 * (entry.wall_per_column or 0):.3g} ms a column'}"


def _measure(path: Path, name: str, columns: int, limit: float | None, threads: int) -> dict[str, Any]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [sys.executable, "-m", "depurate.bench.worker", str(path), name, str(columns), str(limit or 0)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    if result.returncode == -signal.SIGPROF:
        return {"note": f"over {limit:.0f} s", "wall_per_column": limit, "cpu_per_column": limit}
    if result.returncode:
        return {"note": (result.stderr.strip().splitlines() or ["failed"])[-1][:120]}
    measured: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return measured


def _entry(name: str, measured: dict[str, Any], best: Any, limit: float) -> Entry:
    losses, shown = measured.get("losses"), ("wall_per_column", "cpu_per_column", "losses", "note")
    excess = None if losses is None else float(np.max((np.array(losses[: len(best)]) - best) / best))
    return Entry(
        contender=name,
        wall_per_column=measured.get("wall_per_column"),
        cpu_per_column=measured.get("cpu_per_column"),
        excess=excess,
        note=measured.get("note", ""),
        details={key: value for key, value in measured.items() if key not in shown},
    )
