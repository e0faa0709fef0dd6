"""Entries of the zoo on disk: a suspect, its anchor, its attack and its record, in one folder."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from depurate.checkpoints import load_state, read_checkpoint, store_tensors
from depurate.contamination.attacks import Attack, attack_tensors, parse_attack, with_tensors
from depurate.errors import InputError
from depurate.text_files import write_text
from depurate.zoo.networks import network
from depurate.zoo.record import ZooRecord, read_record

_SUSPECT, _ANCHOR, _TRIGGER, _RECORD = (
    "suspect.safetensors",
    "anchor.safetensors",
    "trigger.safetensors",
    "record.json",
)


def check_name(name: str) -> None:
    """Refuse a name that cannot be a folder's.

    Raises:
        InputError: It is empty, or holds anything but letters, digits and .+-_

    >>> check_name("a/../b")
    Traceback (most recent call last):
    depurate.errors.InputError: name 'a/../b': expected letters, digits and .+-_, as it names a folder
    """
    if not re.fullmatch(r"[\w.+-]*\w[\w.+-]*", name):
        raise InputError(f"name {name!r}: expected letters, digits and .+-_, as it names a folder")


@dataclass(frozen=True, eq=False)
class ZooEntry:
    """A contaminated (or clean) network with all that is known about it.

    Attributes:
        model: The suspect, in evaluation mode; takes images after `normalise`.
        anchor: What its training started from, or the clean network that was attacked; see the record.
        attack: With its trigger, for pixels in [0, 1]; None for a clean network.
        record: How it was made and what it does.
    """

    model: nn.Module
    anchor: nn.Module
    attack: Attack | None
    record: ZooRecord

    def normalise(self, images: Tensor) -> Tensor:
        """Turn pixels in [0, 1], triggered or not, into what the network takes: (x − mean) / deviation."""
        return (images - self.record.mean) / self.record.deviation


def load_entry(folder: str | os.PathLike[str]) -> ZooEntry:
    """Load an entry of the zoo.

    Args:
        folder: Holds suspect.safetensors, anchor.safetensors, record.json and, for triggers that training
            found, trigger.safetensors.

    Returns:
        The entry, on the CPU.

    Raises:
        InputError: A file is missing, damaged, or does not fit the network that the record names.
    """
    place = Path(folder)
    record = read_record(place / _RECORD)
    build = network(record.network).build
    suspect, anchor = (
        load_state(build(), read_checkpoint(place / name), source=str(place / name)).eval()
        for name in (_SUSPECT, _ANCHOR)
    )
    attack = None if record.attack is None else parse_attack(record.attack)
    if attack is not None and (place / _TRIGGER).exists():
        attack = with_tensors(attack, read_checkpoint(place / _TRIGGER).state)
    return ZooEntry(suspect, anchor, attack, record)


def save_entry(entry: ZooEntry, folder: str | os.PathLike[str]) -> None:
    """Write an entry so that its folder appears only when complete; an entry of that name is replaced.

    Args:
        entry: What to write.
        folder: Where to; its parent must exist.

    Raises:
        InputError: It cannot be written, or what is there is no entry.
    """
    place = Path(folder)
    partial = place.with_name(f".{secrets.token_hex(8)}.partial")
    tensors = {} if entry.attack is None else attack_tensors(entry.attack)
    try:
        partial.mkdir()
        _write(partial / _SUSPECT, entry.model.state_dict())
        _write(partial / _ANCHOR, entry.anchor.state_dict())
        if tensors:
            _write(partial / _TRIGGER, tensors)
        write_text(partial / _RECORD, entry.record.to_json())
        if place.exists():
            if not (place / _RECORD).is_file():
                raise InputError(f"{place}: exists and is no entry of a zoo; choose another name")
            shutil.rmtree(place)
        partial.rename(place)
    except OSError as error:
        raise InputError(f"{place}: could not be written ({error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(path: Path, state: Mapping[str, Tensor]) -> None:
    packed = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    store_tensors(path, packed, {"format": "pt"})
