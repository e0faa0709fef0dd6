"""The leaderboard's figure: what is left of each attack and what it cost, contender by contender."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from depurate.bench.defences.record import Record
from depurate.bench.defences.standings import Standing, backdoored, contender_of, gain, standings
from depurate.report.svg import BLUE, GREY, INK, VERMILLION, Panel, house_style, panel, wide_canvas

WORDS = (
    "Two panels with a row for each defence, those that ran on most networks first: attack success that is "
    "left on each backdoored network, and change of clean accuracy. A vertical tick marks the mean."
)


@house_style
def draw_chart(records: Sequence[Record]) -> Panel:
    """Draw the figure as a panel for a page; the tables say the same in numbers."""
    return panel(_figure(records), "leaderboard", WORDS)


@house_style
def write_chart(records: Sequence[Record], path: Path) -> None:
    """Write the figure as an SVG file of its own."""
    _figure(records).savefig(path, format="svg", metadata={"Date": None}, facecolor="white")


def _figure(records: Sequence[Record]) -> Figure:
    order, attacked = standings(records), backdoored(records)
    figure, (left, right) = wide_canvas(900, 92 + 24 * max(len(order), 1), 2)
    for row, standing in enumerate(order):
        rows = [record for record in attacked if contender_of(record) == standing.contender]
        colour = VERMILLION if standing.contender.ours else BLUE
        _dots(left, row, [100 * _left(record) for record in rows], colour)
        _dots(right, row, [100 * gain(record) for record in rows], colour)
    left.set_yticks(range(len(order)), [_label(standing) for standing in order], parse_math=False)
    for tick, standing in zip(left.get_yticklabels(), order, strict=True):
        tick.set_color(VERMILLION if standing.contender.ours else INK)
    left.set_ylim(max(len(order), 1) - 0.4, -0.6)
    left.set(title="Attack success that is left", xlabel="per cent of triggered images", xlim=(-3, 103))
    right.set(title="Change of clean accuracy", xlabel="points")
    right.axvline(0, color=GREY, linewidth=1)
    return figure


def _left(record: Record) -> float:
    return 0.0 if record.after is None or record.after.success is None else record.after.success


def _label(standing: Standing) -> str:
    return f"{standing.contender.title}  ({100 * standing.rating:.1f} on {standing.networks})"


def _dots(axes: Axes, row: int, values: Sequence[float], colour: str) -> None:
    axes.plot(values, [row] * len(values), "o", color=colour, alpha=0.55, markersize=6, markeredgewidth=0)
    axes.plot([sum(values) / len(values)], [row], "|", color=INK, markersize=13, markeredgewidth=2)
