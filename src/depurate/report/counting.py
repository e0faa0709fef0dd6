"""How many numbers a network has, and how many of them are taken for hit."""

from __future__ import annotations

from depurate.recovery.records import LayerRecord, PurifyRecord
from depurate.report.formats import count, percent


def entries(layer: LayerRecord) -> int:
    """Count the numbers that the layer's kernels hold."""
    return layer.fan_in * layer.kernels


def has_kernels(layer: LayerRecord) -> bool:
    """Whether the layer has weights, as normalisations recovered by their statistics have not."""
    return layer.patches > 0


def hits(layer: LayerRecord) -> int:
    """Count the layer's entries that are taken for hit; the non-finite ones are always among them."""
    return max(layer.contaminated, layer.nonfinite)


def all_hits(record: PurifyRecord) -> int:
    """Count the entries of a network that are taken for hit, those of no layer as well."""
    return sum(map(hits, record.layers)) + sum(guess.hit for guess in record.guessed)


def all_entries(record: PurifyRecord) -> int:
    """Count the numbers among which hits were counted."""
    return sum(map(entries, record.layers)) + sum(guess.entries for guess in record.guessed)


def uncovered_share(record: PurifyRecord) -> str:
    r"""Say which share of a network's numbers no recovery covers; nothing where the record does not have it.

    >>> from depurate.recovery.records import Guarantee
    >>> part = {"untouched": ("a",), "untouched_entries": 1, "entries": 40}
    >>> uncovered_share(PurifyRecord("auto", Guarantee.NONE, "given", 100, (), None, **part))
    ", 2.5\xa0% of the network's 40 numbers"
    """
    if not record.entries:
        return ""
    share = percent(record.untouched_entries / record.entries)
    return f", {share} of the network's {count(record.entries)} numbers"


def hit_share(layer: LayerRecord) -> float:
    """Take the share of the layer's entries that are taken for hit, 0 for a layer without entries."""
    return hits(layer) / entries(layer) if entries(layer) else 0.0
