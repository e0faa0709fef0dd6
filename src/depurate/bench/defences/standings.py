"""What the records say, put in order: contenders over all backdoors, duels on each, clean and damaged networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from depurate.bench.defences.record import Record
from depurate.bench.defences.spec import OURS

BACKDOOR_GONE = 0.10
"""Attack success up to which a table calls a backdoor gone; chance level with ten classes."""


@dataclass(frozen=True)
class Contender:
    """A configured defence with the number of labels it was given.

    Attributes:
        name: Spec of the defence.
        labels: Labelled images, 0 for none.
        images: Unlabelled images, 0 for none.
        anchor: Whether it knew what training started from.
    """

    name: str
    labels: int
    images: int
    anchor: bool

    @property
    def ours(self) -> bool:
        """Whether it is depurate."""
        return self.name.partition(":")[0] in OURS

    @property
    def title(self) -> str:
        """For tables: the name, and the labels where it took any."""
        return f"{self.name}, {self.labels:,} labels" if self.labels else self.name


@dataclass(frozen=True, order=True)
class Ground:
    """What records have in common that are compared with each other on one network.

    Attributes:
        model: Name of the network.
        seed: Of the images' order and of every random choice.
        suspect: Digest of the network.
        pixels: Digest of the test images.
    """

    model: str
    seed: int
    suspect: str
    pixels: str

    @property
    def title(self) -> str:
        """For tables: the network, and the seed where it is not 0."""
        return f"{self.model}, seed {self.seed}" if self.seed else self.model


@dataclass(frozen=True)
class Standing:
    """A contender over all backdoored networks it ran on; rates are shares of 1.

    Attributes:
        contender: Who.
        networks: How many.
        rating: Mean defence effectiveness.
        change: Mean change of accuracy.
        success: Mean attack success that is left.
        worst: Largest attack success that is left.
        gone: Networks whose attack success fell to `BACKDOOR_GONE` or below.
        cpu_seconds: Median.
        peak_bytes: Largest memory of the process.
    """

    contender: Contender
    networks: int
    rating: float
    change: float
    success: float
    worst: float
    gone: int
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Duel:
    """One of our entries against the best rivals on one backdoored network.

    Attributes:
        ground: The network.
        ours: Our record.
        unlabelled: Best rival that uses no labels, or None.
        rival: Best rival of all, or None.
    """

    ground: Ground
    ours: Record
    unlabelled: Record | None
    rival: Record | None

    @property
    def lead(self) -> float | None:
        """Our rating less that of the best rival: a win above 0, a loss below."""
        if self.rival is None:
            return None
        return rating(self.ours) - rating(self.rival)


def contender_of(record: Record) -> Contender:
    """Who made a record."""
    return Contender(record.job.defence, record.job.labels, record.job.images, record.anchor)


def ground_of(record: Record) -> Ground:
    """What a record may be compared on."""
    return Ground(record.job.model, record.job.seed, record.job.suspect, record.job.pixels)


def rating(record: Record) -> float:
    """Defence effectiveness of a record of a backdoored network."""
    found = record.effectiveness
    assert found is not None
    return found


def backdoored(records: Sequence[Record]) -> tuple[Record, ...]:
    """Keep those with a backdoor in the network."""
    return tuple(record for record in records if record.effectiveness is not None)


def standings(records: Sequence[Record]) -> tuple[Standing, ...]:
    """Order the contenders: those that ran on most networks first, and among these the best mean rating."""
    by_contender: dict[Contender, list[Record]] = {}
    for record in backdoored(records):
        by_contender.setdefault(contender_of(record), []).append(record)
    found = [_standing(contender, rows) for contender, rows in by_contender.items()]
    return tuple(sorted(found, key=lambda standing: (-standing.networks, -standing.rating)))


def _standing(contender: Contender, rows: Sequence[Record]) -> Standing:
    networks: dict[tuple[str, str, str | None], list[Record]] = {}
    for row in rows:  # several seeds on one network are one network
        networks.setdefault((row.job.model, row.job.suspect, row.job.contamination), []).append(row)
    left = [fmean(_success(row) for row in same) for same in networks.values()]
    return Standing(
        contender,
        len(networks),
        fmean(fmean(map(rating, same)) for same in networks.values()),
        fmean(fmean(map(gain, same)) for same in networks.values()),
        fmean(left),
        max(_success(row) for row in rows),
        sum(success <= BACKDOOR_GONE for success in left),
        median(row.cpu_seconds for row in rows),
        max(row.peak_bytes for row in rows),
    )


def duels(records: Sequence[Record]) -> tuple[Duel, ...]:
    """Set each of our records beside the best rivals on the same network, images and seed, network by network."""
    found = []
    attacked = backdoored(records)
    for ours in attacked:
        if not contender_of(ours).ours:
            continue
        rivals = [
            record
            for record in attacked
            if ground_of(record) == ground_of(ours) and not contender_of(record).ours
        ]
        unlabelled = [record for record in rivals if not record.job.labels]
        best, best_unlabelled = (max(group, key=rating, default=None) for group in (rivals, unlabelled))
        found.append(Duel(ground_of(ours), ours, best_unlabelled, best))
    return tuple(sorted(found, key=lambda duel: (duel.ground, duel.ours.job.defence)))


def by_network(records: Sequence[Record]) -> dict[Ground, tuple[Record, ...]]:
    """Group the records of backdoored networks, best rating first."""
    groups: dict[Ground, list[Record]] = {}
    for record in sorted(backdoored(records), key=lambda record: -rating(record)):
        groups.setdefault(ground_of(record), []).append(record)
    return {ground: tuple(groups[ground]) for ground in sorted(groups)}


def clean(records: Sequence[Record]) -> tuple[Record, ...]:
    """Keep those of clean networks as they are, by network and then from the least harm to the most."""
    kept = [record for record in records if record.attack is None and record.job.contamination is None]
    return tuple(sorted(kept, key=lambda record: (ground_of(record), -gain(record))))


def damaged(records: Sequence[Record]) -> dict[tuple[Ground, str], tuple[Record, ...]]:
    """Group the records of clean networks under noise by (network, noise), best repair first."""
    groups: dict[tuple[Ground, str], list[Record]] = {}
    for record in sorted(records, key=lambda record: -gain(record)):
        if record.attack is None and record.job.contamination is not None:
            groups.setdefault((ground_of(record), record.job.contamination), []).append(record)
    return {key: tuple(groups[key]) for key in sorted(groups)}


def _success(record: Record) -> float:
    """Attack success that is left of a backdoor, of 1."""
    assert record.after is not None
    assert record.after.success is not None
    return record.after.success


def gain(record: Record) -> float:
    """Change of accuracy, of 1."""
    return 0.0 if record.after is None else record.after.accuracy - record.before.accuracy
