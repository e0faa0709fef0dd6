"""The job of running one defence on one broken network, and the record it leaves."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from depurate.errors import InputError


@dataclass(frozen=True)
class Job:
    """One defence on one network.

    Attributes:
        model: Name of the network's folder in the zoo.
        contamination: Spec of the noise put on its weights first, or None.
        defence: Spec of the defence.
        labels: Labelled images the defence is given; 0 where it uses none.
        images: Unlabelled images it is given; 0 where it uses none.
        seed: Of every random choice, the noise included.
        suspect: Digest of the zoo's entry, with its anchor and attack.
        pixels: Digest of the dataset's test images and classes; empty in records of earlier versions, whose `suspect`
            is the SHA-256 of a file.
    """

    model: str
    contamination: str | None
    defence: str
    labels: int
    images: int
    seed: int
    suspect: str
    pixels: str = ""

    @property
    def file(self) -> str:
        """Name of the record's file."""
        parts = (
            self.model,
            self.contamination or "as-is",
            self.defence,
            f"{self.labels}-labels",
            f"{self.images}-images",
            f"seed-{self.seed}",
        )
        return "--".join(re.sub(r"[^A-Za-z0-9.+-]+", "_", part) for part in parts) + ".json"


@dataclass(frozen=True)
class Rates:
    """What a network does on the measured images.

    Attributes:
        accuracy: Share classified rightly.
        success: Share of triggered images, of classes the attacker does not want anyway, that go where the attacker
            wants; None where there is no attack.
    """

    accuracy: float
    success: float | None


@dataclass(frozen=True)
class Record:
    """What came of a job.

    Attributes:
        job: The job.
        dataset: Of the network.
        network: Its architecture.
        attack: Spec of its backdoor, or None.
        config: Every hyper-parameter of the defence.
        anchor: Whether the defence was given the anchor.
        intact: Rates before any noise on the weights.
        before: Rates of the network as the defence got it.
        after: Rates of what it returned; None where it failed.
        seconds: Wall time of the defence alone.
        cpu_seconds: CPU time of the defence alone.
        start_bytes: Memory of the process when the defence began.
        peak_bytes: Largest memory of the process while the defence worked.
        note: Empty, or why there is no result.
        versions: Of depurate, torch and Python.
        threads: Threads the defence could use.
        device: What it worked on, `cpu` or the name of a GPU.
        device_bytes: Largest memory it took there; 0 on the CPU, whose memory is `peak_bytes`.
    """

    job: Job
    dataset: str
    network: str
    attack: str | None
    config: dict[str, Any]
    anchor: bool
    intact: Rates
    before: Rates
    after: Rates | None
    seconds: float
    cpu_seconds: float
    start_bytes: int
    peak_bytes: int
    note: str
    versions: dict[str, str]
    threads: int
    device: str = "cpu"
    device_bytes: int = 0

    @property
    def effectiveness(self) -> float | None:
        """Defence effectiveness rating: [max(0, fall of ASR) − max(0, fall of ACC) + 1] / 2; None without an attack.

        Source: Zhu et al., ICCV 2023.
        """
        if self.after is None or self.before.success is None or self.after.success is None:
            return None
        gained = max(0.0, self.before.success - self.after.success)
        lost = max(0.0, self.before.accuracy - self.after.accuracy)
        return (gained - lost + 1) / 2

    def to_json(self) -> str:
        """Write as indented JSON, the rating included for readers of the file."""
        return json.dumps(asdict(self) | {"effectiveness": self.effectiveness}, indent=2) + "\n"


def read_bench_record(path: Path) -> Record:
    """Read a record that `to_json` wrote.

    Raises:
        InputError: It is not one.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        del found["effectiveness"]
        found["job"] = Job(**found["job"])
        for name in ("intact", "before", "after"):
            found[name] = None if found[name] is None else Rates(**found[name])
        return Record(**found)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a record of this bench ({error})") from error
