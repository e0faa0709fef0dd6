"""The leaderboard: the same tables as Markdown and as one HTML page, with one figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from depurate.bench.defences.chart import draw_chart, write_chart
from depurate.bench.defences.record import Rates, Record
from depurate.bench.defences.standings import (
    BACKDOOR_GONE,
    Contender,
    Duel,
    by_network,
    clean,
    contender_of,
    damaged,
    duels,
    gain,
    ground_of,
    rating,
    standings,
)
from depurate.text_files import write_text

ALLOWED_COST = 0.003
"""What purifying a clean network may cost, of 1."""


@dataclass(frozen=True)
class Table:
    """One table of the leaderboard.

    Attributes:
        title: Heading.
        words: What it shows.
        head: Column headings.
        rows: Cells as text.
        ours: For each row, whether it is depurate's.
    """

    title: str
    words: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ours: tuple[bool, ...]


def write_leaderboard(records: Sequence[Record], out: Path) -> None:
    """Write `leaderboard.md`, `leaderboard.html` and `leaderboard.svg`.

    Args:
        records: At least one.
        out: An existing folder.
    """
    write_text(out / "leaderboard.md", render_markdown(records))
    write_text(out / "leaderboard.html", render_page(records))
    write_chart(records, out / "leaderboard.svg")


def render_markdown(records: Sequence[Record]) -> str:
    """Render every table as Markdown; rows of depurate are bold."""
    parts = []
    for table in tables(records):
        lines = ["| " + " | ".join(table.head) + " |", "|" + "---|" * len(table.head)]
        for row, ours in zip(table.rows, table.ours, strict=True):
            cells = [f"**{cell}**" if ours and cell else cell for cell in row]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append(f"## {table.title}\n{table.words}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def render_page(records: Sequence[Record]) -> str:
    """Render tables and figure as one page that loads nothing."""
    environment = Environment(
        loader=PackageLoader("depurate.bench.defences", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("depurate.report").joinpath("page.css").read_text(encoding="utf-8")
    chart = draw_chart(records)
    return environment.get_template("leaderboard.html.j2").render(
        style=Markup(style), chart=Markup(chart.svg), words=chart.words, tables=tables(records)
    )


def tables(records: Sequence[Record]) -> tuple[Table, ...]:
    """Lay out everything the records say; empty tables are left out."""
    networks = [_network_table(ground.title, rows) for ground, rows in by_network(records).items()]
    laid_out = (_standing_table(records), _duel_table(duels(records)), _clean_table(clean(records)))
    noise = _damage_table(records)
    return tuple(table for table in (*laid_out, noise, *networks) if table.rows)


def _standing_table(records: Sequence[Record]) -> Table:
    order = standings(records)
    rows = [
        (
            standing.contender.title,
            *_needs(standing.contender),
            str(standing.networks),
            _percent(standing.rating),
            _signed(standing.change),
            _percent(standing.success),
            _percent(standing.worst),
            f"{standing.gone}/{standing.networks}",
            f"{standing.cpu_seconds:.0f}",
            f"{standing.peak_bytes / 1e6:.0f}",
        )
        for standing in order
    ]
    head = ("defence", "labels", "images", "anchor", "networks", "DER", "ΔACC", "ASR left", "worst ASR")
    words = (
        "Means over the backdoored networks each defence ran on, in per cent and points; those with fewer networks "
        f"come last: they are not comparable with the others. Gone: ASR at most {100 * BACKDOOR_GONE:.0f} %. "
        "CPU seconds are medians; peak memory is that of the whole process while the defence works."
    )
    ours = tuple(standing.contender.ours for standing in order)
    return Table("Backdoors: all defences", words, (*head, "gone", "CPU s", "peak MB"), tuple(rows), ours)


def _duel_table(found: Sequence[Duel]) -> Table:
    rows = [
        (
            duel.ground.title,
            duel.ours.job.defence,
            _with_rating(duel.ours),
            "none ran" if duel.unlabelled is None else _rival(duel.unlabelled),
            "none ran" if duel.rival is None else _rival(duel.rival),
            _verdict(duel.lead),
        )
        for duel in found
    ]
    words = "ACC / ASR in per cent, with the rating (DER) in brackets. The last column is our rating less the best."
    head = (
        "network",
        "entry",
        "depurate",
        "best rival without labels",
        "best rival of all",
        "against the best",
    )
    return Table("Wins and losses of depurate", words, head, tuple(rows), (False,) * len(rows))


def _clean_table(rows: Sequence[Record]) -> Table:
    cells = [
        (
            ground_of(row).title,
            contender_of(row).title,
            _percent(row.before.accuracy),
            "" if row.after is None else _percent(row.after.accuracy),
            _signed(gain(row)),
            "yes" if gain(row) >= -ALLOWED_COST else "no",
        )
        for row in rows
    ]
    words = "What each defence costs a network that nobody attacked. Allowed: 0.3 points."
    head = ("network", "defence", "ACC before", "ACC after", "change", "within what is allowed")
    return Table("Clean networks", words, head, tuple(cells), tuple(contender_of(row).ours for row in rows))


def _damage_table(records: Sequence[Record]) -> Table:
    rows = [row for group in damaged(records).values() for row in group]
    cells = [
        (
            ground_of(row).title,
            row.job.contamination or "",
            contender_of(row).title,
            _percent(row.intact.accuracy),
            _percent(row.before.accuracy),
            "" if row.after is None else _percent(row.after.accuracy),
            _signed(gain(row)),
        )
        for row in rows
    ]
    words = "Clean networks with noise on their weights: accuracy before the noise, with it, and after the repair."
    head = ("network", "noise", "defence", "intact", "damaged", "repaired", "gain")
    return Table("Damaged weights", words, head, tuple(cells), tuple(contender_of(row).ours for row in rows))


def _network_table(title: str, rows: Sequence[Record]) -> Table:
    cells = [
        (
            contender_of(row).title,
            *_needs(contender_of(row)),
            _rates(row.after),
            _percent(rating(row)),
            f"{row.cpu_seconds:.0f}",
            f"{row.peak_bytes / 1e6:.0f}",
        )
        for row in rows
    ]
    words = f"{rows[0].attack}. Before: ACC / ASR {_rates(rows[0].before)} %."
    head = ("defence", "labels", "images", "anchor", "ACC / ASR after", "DER", "CPU s", "peak MB")
    return Table(title, words, head, tuple(cells), tuple(contender_of(row).ours for row in rows))


def _needs(contender: Contender) -> tuple[str, str, str]:
    return f"{contender.labels:,}", f"{contender.images:,}", "yes" if contender.anchor else "no"


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}"


def _rates(rates: Rates | None) -> str:
    if rates is None:
        return "failed"
    return f"{_percent(rates.accuracy)} / {'-' if rates.success is None else _percent(rates.success)}"


def _with_rating(record: Record) -> str:
    return f"{_rates(record.after)} ({_percent(rating(record))})"


def _rival(record: Record) -> str:
    return f"{contender_of(record).title}: {_with_rating(record)}"


def _verdict(lead: float | None) -> str:
    if lead is None:
        return "no rival ran"
    points = round(100 * lead, 1)
    return "level" if points == 0 else f"{'won' if points > 0 else 'lost'} by {abs(points):.1f}"
