"""The key numbers of a purification, each with a line that says what it is."""

from __future__ import annotations

from dataclasses import dataclass

from depurate.recovery.records import PurifyRecord
from depurate.report.counting import all_entries, all_hits, has_kernels
from depurate.report.formats import DASH, NBSP, count, duration, percent, plural, points, scientific


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
    hit, total = all_hits(record), all_entries(record)
    certified = sum(layer.certified for layer in record.layers)
    weighted = [layer for layer in record.layers if has_kernels(layer)]
    return (
        *_held_back(record),
        Fact(
            "Entries taken for hit",
            count(hit),
            f"of {count(total)} ({percent(hit / total if total else 0.0)})",
        ),
        Fact(
            "Kernels certified",
            f"{count(certified)} of {count(sum(layer.kernels for layer in weighted))}",
            f"in {plural(len(weighted), 'layer')}",
        ),
        Fact("Benign images used", count(record.images), "for the recovery, unlabelled"),
        Fact("Anchor", record.anchor, "what training started from"),
        _strength(record),
        Fact("Time", duration(record.seconds), f"method asked for: {record.method}"),
    )


def _held_back(record: PurifyRecord) -> tuple[Fact, Fact]:
    held = record.agreement
    if held is None:
        reason = "measured for soft recovery, where images could be held back"
        return Fact("Agreement with the suspect", DASH, reason), Fact("Expected loss", DASH, reason)
    interval = f"95{NBSP}% interval {percent(held.low)} to {percent(held.high)}"
    return (
        Fact(f"Agreement with the {record.compared}", percent(held.agreement), interval),
        Fact("Expected loss", points(held.expected_loss), "of accuracy, predicted without labels"),
    )


def _strength(record: PurifyRecord) -> Fact:
    used = sorted({layer.strength for layer in record.layers if layer.strength is not None})
    if not used:
        return Fact("Strength λ", DASH, "no layer has one")
    value = scientific(used[0]) if len(used) == 1 else f"{scientific(used[0])} to {scientific(used[-1])}"
    tried = len({trial.strength for trial in record.trials})
    if record.strength is not None:
        detail = "as asked for"
    elif tried > 1:
        detail = f"chosen among {count(tried)} without labels"
    else:
        detail = "checked on held-back images" if tried else "the default: none was tried"
    return Fact("Strength λ", value, detail + ("; differs between layers" if len(used) > 1 else ""))
