"""The key numbers of a purification, each with a line that says what it is."""

from __future__ import annotations

from dataclasses import dataclass

from depurate.recovery.records import PurifyRecord
from depurate.report.formats import DASH, NBSP, count, duration, percent, plural, points, scientific
from depurate.report.verdict import entries, hits


@dataclass(frozen=True)
class Fact:
    """One key number: what it is called, its value, and a short line beneath it."""

    label: str
    value: str
    detail: str


def key_numbers(record: PurifyRecord) -> tuple[Fact, ...]:
    """Collect the numbers worth reading first.

    Args:
        record: The account of the purification.

    Returns:
        The facts in reading order; what was not measured is a dash with the reason.

    >>> from depurate.recovery.records import Guarantee
    >>> empty = PurifyRecord("auto", Guarantee.NONE, "given", 100, (), None)
    >>> [fact.value for fact in key_numbers(empty)]
    ['–', '–', '0', '0 of 0', '100', 'given', '–', '0 ms']
    """
    hit, total = sum(map(hits, record.layers)), sum(map(entries, record.layers))
    certified = sum(layer.certified for layer in record.layers)
    return (
        *_held_back(record),
        Fact(
            "Entries taken for hit",
            count(hit),
            f"of {count(total)} ({percent(hit / total if total else 0.0)})",
        ),
        Fact(
            "Kernels certified",
            f"{count(certified)} of {count(sum(layer.kernels for layer in record.layers))}",
            f"in {plural(len(record.layers), 'layer')}",
        ),
        Fact("Benign images used", count(record.images), "for the recovery, unlabelled"),
        Fact("Anchor", record.anchor, "what training started from"),
        _strength(record),
        Fact("Time", duration(record.seconds), f"method asked for: {record.method}"),
    )


def _held_back(record: PurifyRecord) -> tuple[Fact, Fact]:
    held = record.agreement
    if held is None:
        reason = "nothing was fitted to the images, or none was held back"
        return Fact("Agreement with the suspect", DASH, reason), Fact("Expected loss", DASH, reason)
    interval = f"95{NBSP}% interval {percent(held.low)} to {percent(held.high)}"
    return (
        Fact(f"Agreement with the {record.compared}", percent(held.agreement), interval),
        Fact("Expected loss", points(held.expected_loss), "of accuracy, predicted without labels"),
    )


def _strength(record: PurifyRecord) -> Fact:
    chosen = [trial.strength for trial in record.trials if trial.chosen]
    used = sorted({layer.strength for layer in record.layers if layer.strength is not None})
    if chosen:
        detail = f"chosen among {count(len(record.trials))} without labels"
        return Fact("Strength λ", ", ".join(map(scientific, chosen)), detail)
    if not used:
        return Fact("Strength λ", DASH, "no layer has one")
    if len(used) == 1:
        return Fact("Strength λ", scientific(used[0]), "given, none was tried")
    return Fact("Strength λ", f"{scientific(used[0])} to {scientific(used[-1])}", "differs between layers")
