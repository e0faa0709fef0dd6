"""A study: cases that are run one by one, and figures drawn from their records."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Record:
    """One finished run.

    Attributes:
        study: Name of the study.
        config: Everything the results depend on.
        results: What was measured; equal for equal config, whatever machine or backend ran it.
        seconds: Wall time of the run.
        processor: Seconds of a processor's core that it took: the same whatever else the machine did.
        versions: Of depurate, torch and Python, where it ran.
    """

    study: str
    config: Mapping[str, Any]
    results: Mapping[str, Any]
    seconds: float
    processor: float
    versions: Mapping[str, str]


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what a reader needs beside it.

    Attributes:
        key: File name without ending.
        title: Heading.
        caption: What is shown, what was measured, what follows.
        figure: Drawn in the house style.
        words: The same for those who cannot see it.
    """

    key: str
    title: str
    caption: str
    figure: Figure
    words: str


@dataclass(frozen=True)
class Table:
    """Numbers beside the figures: a heading, column names, rows of texts."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Study:
    """One experiment.

    Attributes:
        name: Short name; the folder of its records.
        title: Heading on the page.
        question: What it asks, and how it answers.
        revision: Raised when a run comes to mean something else: older records are then not reused.
        cases: Frozen dataclasses of plain values, one a run; each has a fixed seed.
        run: Runs one case and returns plain values. Importable by name, so that it can be sent to other processes.
        draw: Figures from the records, in the order of the cases; some may still be missing.
        tabulate: Tables from the same.
    """

    name: str
    title: str
    question: str
    revision: int
    cases: tuple[Any, ...]
    run: Callable[[Any], dict[str, Any]]
    draw: Callable[[Sequence[Record]], tuple[Picture, ...]]
    tabulate: Callable[[Sequence[Record]], tuple[Table, ...]]

    def config(self, case: Any) -> dict[str, Any]:
        """Everything the results of a case depend on, as plain values."""
        plain: dict[str, Any] = json.loads(json.dumps({"revision": self.revision, **asdict(case)}))
        return plain

    def key(self, case: Any) -> str:
        """A name for the case's record that changes with its config."""
        text = json.dumps(self.config(case), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
