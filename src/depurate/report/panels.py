"""The pictures that the report's figures are made of, one function each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from depurate.recovery.records import Histogram, LayerRecord, Spectrum, TriggerSearch
from depurate.report.formats import count, percent, plural, scientific, shorten
from depurate.report.svg import BLUE, GREY, INK, VERMILLION, Panel, canvas, panel, wide_canvas

LABELS = 9
"""Strengths written along an axis at most."""


@dataclass(frozen=True)
class Reading:
    """One point of a figure over strengths: where, whether chosen, the value with its ends, and as text."""

    label: str
    chosen: bool
    value: float
    low: float
    high: float
    text: str


def row_bars(axis: Axes, shares: Sequence[float | None], colour: str, hatched: Sequence[float] = ()) -> None:
    """Draw a bar for each row with its share written at the end.

    Args:
        axis: Where to draw.
        shares: Shares of 1 from the top row to the bottom; None where not measured.
        colour: Of the bars.
        hatched: The part of each share to hatch, empty for none.
    """
    lengths = [share if share is not None and math.isfinite(share) else 0.0 for share in shares]
    rows = range(len(lengths))
    axis.barh(rows, lengths, height=0.62, color=colour)
    if any(hatched):
        axis.barh(rows, hatched, height=0.62, color=VERMILLION, hatch="////", edgecolor="white")
    for row, share, length in zip(rows, shares, lengths, strict=True):
        text = axis.annotate(percent(share), (length, row), (4, 0), textcoords="offset points")
        text.set(fontsize=9, color=INK, verticalalignment="center")
    axis.set_xlim(0, 1.32 * max(lengths) or 1.0)
    axis.xaxis.set_major_locator(MaxNLocator(3) if any(lengths) else FixedLocator([0.0]))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}"))
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def size_panel(search: TriggerSearch, key: str) -> Panel:
    """Draw a bar for each class: the size of the smallest patch found, the flagged ones hatched.

    Args:
        search: At least one class.
        key: A name no other panel of the page has.

    Returns:
        The panel.
    """
    names, sizes, marks = _bars(search)
    rows = range(len(names))
    figure, (axis,) = wide_canvas(660, 74 + 19 * len(rows), 1)
    lengths = [size if size is not None else 0.0 for size in sizes]
    bars = axis.barh(rows, lengths, height=0.62, color=BLUE)
    words = []
    for row, name, size, flagged, bar in zip(rows, names, sizes, marks, bars, strict=True):
        if flagged:
            bar.set(facecolor=VERMILLION, hatch="////", edgecolor="white")
        said = "—" if size is None else f"{size:.3g}"
        text = axis.annotate(said, (lengths[row], row), (4, 0), textcoords="offset points")
        text.set(fontsize=9, color=INK, verticalalignment="center")
        words.append(f"{name}: {said} pixels{', flagged' if flagged else ''}")
    axis.set_yticks(rows, names)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 1.15 * max(lengths) or 1.0)
    axis.set(xlabel="pixels of the smallest patch found")
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)
    return panel(figure, key, f"Bar chart. {'; '.join(words)}.")


def _bars(search: TriggerSearch) -> tuple[list[str], list[float | None], list[bool]]:
    """Names, sizes and marks of the bars: a class each, and the way out of the own class where one was found."""
    names, sizes = [f"class {name}" for name in search.classes], list(search.sizes)
    marks = [name in search.flagged for name in search.classes]
    if search.away is not None:
        names, sizes = [*names, "any other"], [*sizes, search.away]
        marks = [*marks, bool(search.evidence) and not search.flagged]
    return names, sizes, marks


def spectrum_panel(layer: LayerRecord, spectrum: Spectrum, key: str) -> Panel:
    """Draw one layer's cumulative energies over the leading directions.

    Args:
        layer: The layer.
        spectrum: Its spectrum, three finite lists of one length.
        key: A name no other panel of the page has.

    Returns:
        The panel.
    """
    figure, axis = canvas(330, 262)
    directions = spectrum.ends()
    span, suspect, purified = (
        list(accumulate(shares)) for shares in (spectrum.span, spectrum.suspect, spectrum.purified)
    )
    marker = "o" if len(directions) == 1 else ""
    for shares, label, colour, line, width in (
        (span, "benign images (span)", GREY, "-", 4.0),
        (suspect, "suspect's update", VERMILLION, "--", 1.8),
        (purified, "purified update", BLUE, "-", 1.8),
    ):
        heights = [100 * share for share in shares]
        axis.plot(directions, heights, line, label=label, color=colour, linewidth=width, marker=marker)
    if 0 < layer.rank < layer.fan_in:
        label = f"span used: {count(layer.rank)}"
        axis.axvline(layer.rank, color=INK, linewidth=1, linestyle=":", label=label)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_ylim(0, 104)
    axis.set_title(shorten(layer.name), parse_math=False)
    axis.set_xlabel(f"leading directions, of {count(layer.fan_in)} (log scale)")
    axis.set_ylabel("share of energy, cumulative, %")
    axis.legend(loc="best", handlelength=1.8)
    half = next((i for i, share in enumerate(span) if share >= 0.5), len(span) - 1)
    words = (
        f"{shorten(layer.name, 60)}: the first {count(directions[half])} of {count(layer.fan_in)} "
        f"directions hold {percent(span[half])} of the benign images' energy, {percent(suspect[half])} of "
        f"the suspect's update and {percent(purified[half])} of the purified update."
    )
    return panel(figure, key, words)


def residual_panel(layer: LayerRecord, taken: Histogram, key: str) -> Panel:
    """Draw the histogram of what was taken away from one layer.

    Args:
        layer: The layer.
        taken: Its histogram, with positive rising edges and at least one entry.
        key: A name no other panel of the page has.

    Returns:
        The panel.
    """
    figure, axis = canvas(330, 242)
    axis.stairs(taken.counts, taken.edges, fill=True, color=VERMILLION, alpha=0.85, baseline=0.7)
    axis.set_xscale("log")
    axis.set_yscale("log")
    filled = [i for i, number in enumerate(taken.counts) if number]
    axis.set_xlim(
        *_decades(taken.edges[max(filled[0] - 1, 0)], taken.edges[min(filled[-1] + 2, len(taken.counts))])
    )
    axis.set_ylim(0.7, 3 * max(taken.counts))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _rounded(value)))
    axis.minorticks_off()
    axis.set_title(shorten(layer.name), parse_math=False)
    axis.set_xlabel("size of the change (log scale)")
    axis.set_ylabel("entries (log scale)")
    peak = max(filled, key=taken.counts.__getitem__)
    words = (
        f"{shorten(layer.name, 60)}: {plural(sum(taken.counts), 'entry', 'entries')} changed, "
        f"{count(taken.zeros)} not; the fullest bin, {scientific(taken.edges[peak])} to "
        f"{scientific(taken.edges[peak + 1])}, holds {count(taken.counts[peak])}."
    )
    return panel(figure, key, words)


def trial_panel(readings: Sequence[Reading], heading: str, unit: str, key: str) -> Panel:
    """Draw readings over the strengths tried, evenly spaced, the chosen one as a diamond.

    Args:
        readings: In rising order of strength; one that is not finite keeps its place and is not drawn.
        heading: What is shown.
        unit: The vertical axis.
        key: A name no other panel of the page has.

    Returns:
        The panel.
    """
    figure, axis = canvas(420, 262)
    for place, reading in enumerate(readings):
        if not all(map(math.isfinite, (reading.value, reading.low, reading.high))):
            continue
        below, above = max(reading.value - reading.low, 0.0), max(reading.high - reading.value, 0.0)
        axis.errorbar(
            [place],
            [100 * reading.value],
            yerr=[[100 * below], [100 * above]] if below or above else None,
            fmt="D" if reading.chosen else "o",
            color=VERMILLION if reading.chosen else BLUE,
            markersize=9 if reading.chosen else 6,
            capsize=3,
        )
    stride = math.ceil(len(readings) / LABELS)
    ticks = [i for i, reading in enumerate(readings) if i % stride == 0 or reading.chosen]
    axis.set_xticks(ticks, [readings[i].label for i in ticks])
    axis.set_xlim(-0.6, len(readings) - 0.4)
    axis.set_title(heading)
    axis.set_xlabel("strength λ")
    axis.set_ylabel(unit)
    words = "; ".join(
        f"{reading.label}: {reading.text}{' (chosen)' if reading.chosen else ''}" for reading in readings
    )
    return panel(figure, key, f"{heading} for each strength. {words}.")


def _decades(low: float, high: float) -> tuple[float, float]:
    # A range too short to hold two labels of the axis is widened to whole powers of ten.
    first, last = math.log10(low), math.log10(high)
    if last - first >= 2:
        return low, high
    return 10.0 ** math.floor(first), 10.0 ** max(math.ceil(last), math.floor(first) + 1)


def _rounded(number: float) -> str:
    for unit, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:g}{sign}"
    return f"{number:g}"


def _power(value: float) -> str:
    exponent = round(math.log10(value)) if value > 0 else 0
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
