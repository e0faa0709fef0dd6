"""Checkpoints from elsewhere as networks of the zoo, so that the bench can run on them."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import torch

from depurate.bench.defences.images import Split
from depurate.bench.defences.worker import rates
from depurate.checkpoints import load_state, read_checkpoint
from depurate.contamination.attacks import parse_attack
from depurate.errors import InputError
from depurate.text_files import make_folder
from depurate.zoo import ZooEntry, ZooRecord, check_name, network, save_entry


def adopt(
    name: str,
    *,
    suspect: Path,
    anchor: Path,
    dataset: str,
    architecture: str,
    attack: str | None,
    split: Split,
    zoo: Path,
    source: str,
    force: bool = False,
) -> ZooRecord:
    """Measure a checkpoint and write it as an entry of a zoo.

    Args:
        name: Of the entry's folder.
        suspect: The checkpoint.
        anchor: The initialisation that it was trained from.
        dataset: As in the bench, `mnist` or `cifar10`.
        architecture: Name for `depurate.zoo.network`.
        attack: Spec of its backdoor; None for a clean network.
        split: Test images; the measured part is used.
        zoo: Folder of the zoo; made if missing.
        source: Where the checkpoint comes from, for the record.
        force: Whether an entry of that name may be replaced.

    Returns:
        The entry's record.

    Raises:
        InputError: A file cannot be read or does not fit, or a name is unknown or taken.
    """
    check_name(name)
    make_folder(zoo)
    if (zoo / name).exists() and not force:
        raise InputError(f"{zoo / name}: exists already; choose another name or give --force")
    kind = network(architecture)
    kind.check_takes(dataset)
    networks = [
        load_state(kind.build(), read_checkpoint(path), source=str(path)).eval() for path in (suspect, anchor)
    ]
    record = ZooRecord(
        name=name,
        dataset=dataset,
        network=architecture,
        attack=attack,
        anchor_kind="initialisation",
        fraction=0.0,
        seed=0,
        epochs=0,
        accuracy=0.0,
        success=None,
        seconds=0.0,
        versions={
            "depurate": version("depurate"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        mean=kind.mean,
        deviation=kind.deviation,
        measured=len(split.measured),
        source=source,
        note="adopted: how it was trained is not recorded here",
    )
    entry = ZooEntry(networks[0], networks[1], None if attack is None else parse_attack(attack), record)
    found = rates(entry.model, entry, split)
    record = ZooRecord(**(vars(record) | {"accuracy": found.accuracy, "success": found.success}))
    save_entry(ZooEntry(entry.model, entry.anchor, entry.attack, record), zoo / name)
    return record
