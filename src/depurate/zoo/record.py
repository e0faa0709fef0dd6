"""What is noted about each entry of the zoo, in a file record.json."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from depurate.errors import InputError


@dataclass(frozen=True)
class ZooRecord:
    """How an entry was made and what it does; rates are shares from 0 to 1.

    Attributes:
        name: `DATASET-NETWORK-ATTACK`, the entry's folder.
        dataset: `mnist` or `cifar10`.
        network: Name for `depurate.zoo.network`.
        attack: Spec string for `parse_attack`; None for a clean network.
        anchor_kind: `initialisation`, or `base` (the clean network that an attack on weights started from).
        fraction: Share of the training images that was poisoned, 0 where none was.
        seed: Of the initialisation, the poisoning and the order of the images.
        epochs: Passes over the training images.
        accuracy: Share of clean test images answered rightly.
        success: Share of triggered test images answered as the attacker wants, of those whose own class is another
            one; None for a clean network.
        seconds: That making the entry took.
        versions: Of depurate, torch and Python.
        mean: Subtracted from pixels in [0, 1] before the network sees them.
        deviation: What the difference is divided by.
        images: Training images.
        poisoned: How many of them were poisoned, where the attack fixes that before training.
        measured: Test images behind `accuracy`.
        source: Where the images were read from.
        device: What it was trained on.
        note: What was tuned, and why.
    """

    name: str
    dataset: str
    network: str
    attack: str | None
    anchor_kind: str
    fraction: float
    seed: int
    epochs: int
    accuracy: float
    success: float | None
    seconds: float
    versions: dict[str, str]
    mean: float
    deviation: float
    images: int = 0
    poisoned: int | None = None
    measured: int = 0
    source: str = ""
    device: str = "cpu"
    note: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write as indented JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_record(path: Path) -> ZooRecord:
    """Read an entry's record.

    Args:
        path: The file record.json.

    Returns:
        The record.

    Raises:
        InputError: The file is missing, or is not such a record.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a record ({error})") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: not a record")
    required = [entry.name for entry in fields(ZooRecord) if _required(entry)]
    missing = [name for name in required if name not in found]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}")
    known = {entry.name for entry in fields(ZooRecord)}
    return ZooRecord(**{key: value for key, value in found.items() if key in known})


def _required(entry: Any) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING
