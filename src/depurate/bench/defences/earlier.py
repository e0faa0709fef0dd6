"""Records of earlier versions, which name a network by its suspect's file and do not name the images at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from depurate.bench.defences.images import Pixels, load_split
from depurate.bench.defences.record import Job, Record
from depurate.checkpoints import file_sha256
from depurate.errors import InputError
from depurate.zoo import read_record


def renewed(
    records: Sequence[Record], zoo: Path, out: Path, networks: Mapping[str, str], pixels: Mapping[str, Pixels]
) -> dict[Job, Job]:
    """Say by content what jobs of earlier versions were made of, where all of that is still there unchanged.

    Args:
        records: Of any version.
        zoo: Folder of the networks.
        out: The bench's folder, whose images an earlier version kept as `DATASET-seed-N`.
        networks: Digests of the zoo's entries by name; others are not looked for.
        pixels: Test sets by dataset.

    Returns:
        Of earlier versions' jobs, those that are still good, each with what it would be called now.

    Raises:
        InputError: A network's file cannot be read.
    """
    old = [
        record
        for record in records
        if not record.job.pixels and record.job.model in networks and record.dataset in pixels
    ]
    files = {name: file_sha256(zoo / name / "suspect.safetensors") for name in {row.job.model for row in old}}
    splits = {(row.dataset, row.job.seed) for row in old}
    same = {(name, seed) for name, seed in splits if _same_images(out, name, seed, pixels[name])}
    digests = {name: pixels[name].digest for name, _ in same}
    return {
        row.job: replace(row.job, suspect=networks[row.job.model], pixels=digests[row.dataset])
        for row in old
        if (row.dataset, row.job.seed) in same
        and row.job.suspect == files[row.job.model]
        and _same_network(row, zoo)
    }


def _same_images(out: Path, dataset: str, seed: int, pixels: Pixels) -> bool:
    with suppress(InputError):
        kept = load_split(out / "images" / f"{dataset}-seed-{seed}.safetensors")
        pairs = zip(vars(kept).values(), vars(pixels.split(seed)).values(), strict=True)
        return all(torch.equal(one, other) for one, other in pairs)
    return False


def _same_network(record: Record, zoo: Path) -> bool:
    entry = read_record(zoo / record.job.model / "record.json")
    # Earlier versions ran this one without an anchor.
    misled = bool(record.config.get("to_anchor")) and not record.anchor
    return not misled and all(
        getattr(record, name) == getattr(entry, name) for name in ("dataset", "network", "attack")
    )
