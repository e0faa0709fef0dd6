"""What networks and images are at present: a record counts as long as it was made of the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from depurate.bench.defences.earlier import renewed
from depurate.bench.defences.images import Pixels, read_pixels
from depurate.bench.defences.record import Job, Record
from depurate.errors import InputError
from depurate.zoo import entry_digest, load_entry, read_record

_T = TypeVar("_T")


@dataclass(frozen=True)
class Present:
    """Digests of what is there.

    Attributes:
        networks: Of the zoo's entries, by name.
        pixels: Of the test sets, by dataset.
        earlier: Jobs of earlier versions that were made of these, each with what it would be called now.
    """

    networks: Mapping[str, str]
    pixels: Mapping[str, str]
    earlier: Mapping[Job, Job] = field(default_factory=dict)

    def current(self, records: Sequence[Record]) -> tuple[Record, ...]:
        """Keep the records of the networks and images that are there, their jobs as they would be called now."""
        named = [replace(record, job=self.earlier.get(record.job, record.job)) for record in records]
        return tuple(
            record
            for record in named
            if record.job.suspect == self.networks.get(record.job.model)
            and record.job.pixels == self.pixels.get(record.dataset)
        )


def look(
    zoo: Path, data: Path, out: Path, names: Collection[str], records: Sequence[Record]
) -> tuple[Present, Mapping[str, Pixels]]:
    """Read networks and images, and tell what they are.

    Args:
        zoo: Folder of the networks.
        data: Folder of datasets.
        out: The bench's folder.
        names: Networks that must be there, with their datasets.
        records: Whose networks and images are read where they are there.

    Returns:
        Their digests, and the test sets themselves.

    Raises:
        InputError: A network that must be there, or its dataset, is not, or is damaged.
    """
    others = {row.job.model for row in records if (zoo / row.job.model / "record.json").is_file()}
    networks = _read(lambda name: entry_digest(load_entry(zoo / name)), names, others)
    needed = {read_record(zoo / name / "record.json").dataset for name in names}
    seen = {row.dataset for row in records if row.job.model in networks}
    pixels = _read(lambda name: read_pixels(name, data), needed, seen)
    digests = {name: found.digest for name, found in pixels.items()}
    return Present(networks, digests, renewed(records, zoo, out, networks, pixels)), pixels


def _read(read: Callable[[str], _T], needed: Collection[str], others: Collection[str]) -> dict[str, _T]:
    """Read all that is needed, and of the others what can be read."""
    found = {name: read(name) for name in sorted(needed)}
    for name in sorted(set(others) - set(needed)):
        with suppress(InputError):
            found[name] = read(name)
    return found
