"""Records of finished runs: one JSON file each, written whole or not at all, reused while the config matches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from depurate.errors import InputError
from depurate.reproduce.study import Record, Study
from depurate.text_files import make_folder, write_text


def record_path(folder: Path, study: Study, case: Any) -> Path:
    """Where a case's record is kept: FOLDER/records/STUDY/KEY.json."""
    return folder / "records" / study.name / f"{study.key(case)}.json"


def write_record(folder: Path, study: Study, case: Any, record: Record) -> None:
    """Keep a finished run.

    Raises:
        InputError: The file cannot be written.
    """
    path = record_path(folder, study, case)
    make_folder(path.parent)
    write_text(path, json.dumps(asdict(record), indent=1) + "\n")


def read_record(folder: Path, study: Study, case: Any) -> Record | None:
    """The record of a case if it is finished, its config the same.

    Raises:
        InputError: The file is there and no record.
    """
    path = record_path(folder, study, case)
    if not path.exists():
        return None
    try:
        kept = Record(**json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a record ({error}); delete it to run this case again") from error
    return kept if kept.config == study.config(case) else None


def finished(folder: Path, study: Study) -> Sequence[Record]:
    """The records of a study that are there, in the order of its cases."""
    found = (read_record(folder, study, case) for case in study.cases)
    return tuple(record for record in found if record is not None)
