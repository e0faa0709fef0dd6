"""Which attacks the zoo trains on each dataset, with settings at which they work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from depurate.errors import InputError


@dataclass(frozen=True)
class Planned:
    """One attack of the zoo.

    Attributes:
        name: Last part of the entry's name.
        spec: For `parse_attack`; None for the clean network.
        fraction: Share of the training images to poison; None for the one asked for on the command line.
        note: What differs from the attack's source, for the record.
    """

    name: str
    spec: str | None
    fraction: float | None = None
    note: str = ""


_SHORT = "stronger than the default because training is short: "

MNIST = (
    Planned("badnets", "badnets"),
    Planned("blended", "blended"),
    Planned("clean", None),
    Planned(
        "sig",
        "sig:amplitude=0.6,train=0.4",
        0.08,
        "stronger than its authors' and on four fifths of the class: zeros are told from other digits too easily",
    ),
    Planned("wanet", "wanet:strength=2", 0.1, f"{_SHORT}strength 2 for 0.5"),
    Planned("natural", "natural"),
    Planned(
        "low-frequency",
        "low-frequency:amplitude=0.6",
        note=f"{_SHORT}amplitude 0.6 for 0.3",
    ),
    Planned("hidden-update", "hidden-update"),
    Planned("subnet", "subnet"),
    Planned("bit-flips", "bit-flips"),
    Planned("label-consistent", "label-consistent"),
    Planned("trojan-square", "trojan:shape=square"),
    Planned("trojan-watermark", "trojan:shape=watermark,alpha=0.3"),
    Planned("all-to-all", "all-to-all", 0.1),
    Planned("input-aware", "input-aware", 0.1),
)

CIFAR10 = (
    Planned("blended", "blended"),
    Planned("sig", "sig:amplitude=0.08,train=0.08"),
    Planned("wanet", "wanet:strength=1", 0.1, f"{_SHORT}strength 1 for 0.5"),
    Planned("clean", None),
    Planned("badnets", "badnets:rows=28-31,columns=28-31"),
    Planned("natural", "natural:row=23,column=23"),
    Planned("low-frequency", "low-frequency:amplitude=0.1"),
    Planned("hidden-update", "hidden-update:rows=28-31,columns=28-31"),
    Planned("subnet", "subnet:rows=28-31,columns=28-31"),
    Planned("bit-flips", "bit-flips:size=10"),
    Planned("label-consistent", "label-consistent:radius=0.06", 0.1),
    Planned("trojan-square", "trojan:shape=square"),
    Planned("trojan-watermark", "trojan:shape=watermark,alpha=0.2"),
    Planned("all-to-all", "all-to-all:rows=28-31,columns=28-31", 0.1),
    Planned("input-aware", "input-aware", 0.1),
)

CATALOGUE: Mapping[str, tuple[Planned, ...]] = {"mnist": MNIST, "cifar10": CIFAR10}
"""By dataset, the ones most waited for first."""


def planned(dataset: str) -> tuple[Planned, ...]:
    """Give the attacks of a dataset's zoo.

    Raises:
        InputError: The zoo has no such dataset.

    >>> [plan.name for plan in planned("mnist")][:2]
    ['badnets', 'blended']
    """
    if dataset not in CATALOGUE:
        raise InputError(f"dataset {dataset!r}: the zoo has {', '.join(CATALOGUE)}")
    return CATALOGUE[dataset]
