"""`depurate inspect`: noise analysis of a checkpoint file without images."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text
from torch import Tensor

from depurate.analysis import inspect_state
from depurate.checkpoints import Checkpoint, read_checkpoint
from depurate.checkpoints.loading import match_names
from depurate.checkpoints.quoting import quote
from depurate.cli.console import finding_table, print_choice
from depurate.cli.outputs import check_free
from depurate.errors import InputError
from depurate.text_files import write_text


def run_inspect(suspect: Path, anchor: Path | None, out: Path | None, force: bool) -> None:
    """Inspect a checkpoint and print a table of what its numbers say.

    Args:
        suspect: Checkpoint file.
        anchor: Checkpoint of the anchor, if known.
        out: Where to write the findings as JSON, if wanted.
        force: Whether that file may be replaced.

    Raises:
        InputError: A file cannot be read or holds no floating-point tensors, or anchor and suspect do not match.
    """
    read = read_checkpoint(suspect)
    if out is not None:
        check_free(out, force=force, inputs=tuple(path for path in (suspect, anchor) if path is not None))
    findings = inspect_state(read.weights, {} if anchor is None else _matching(read, read_checkpoint(anchor)))
    if not findings:
        raise InputError(
            f"{suspect}: holds no floating-point tensors, and nothing else is looked at: dequantise it first"
        )
    console = Console()
    print_choice(console, read)
    console.print(finding_table(findings))
    hit = sum(finding.nonfinite + finding.absurd for finding in findings)
    total = sum(finding.entries for finding in findings)
    console.print(
        Text(f"{hit:,} of {total:,} entries are contaminated for certain ({read.format} file, {suspect})")
    )
    console.print(
        Text(
            "A backdoor does not show in the numbers alone: depurate purify, with benign images, acts on one."
        )
    )
    if out is not None:
        write_text(
            out, json.dumps([asdict(finding) for finding in findings], indent=2, default=str, allow_nan=False)
        )


def _matching(suspect: Checkpoint, anchor: Checkpoint) -> dict[str, Tensor]:
    ours = suspect.weights
    theirs = match_names(anchor, ours.keys())
    shared = ours.keys() & theirs.keys()
    if not shared:
        raise InputError(f"{anchor.path}: none of its keys is in {suspect.path}")
    for key in sorted(shared):
        if ours[key].shape != theirs[key].shape:
            raise InputError(
                f"{anchor.path}: {quote(key)} is {tuple(theirs[key].shape)}, in {suspect.path} {tuple(ours[key].shape)}"
            )
        bad = int((~theirs[key].float().isfinite()).sum())
        if bad:
            raise InputError(
                f"{anchor.path}: {quote(key)} has {bad} NaN or Inf entries; an anchor must be clean"
            )
    return {key: theirs[key] for key in shared}
