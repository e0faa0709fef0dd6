"""The solver benchmark as a markdown table and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from depurate.bench.solver import Comparison, Entry

# Relative excess of the loss up to which a contender counts as exact.
EXACT = 1e-7


def table(comparisons: Sequence[Comparison]) -> str:
    """Render CPU milliseconds a column, the ratio to the fastest rival, and what our solutions are worth."""
    if not comparisons:
        return ""
    names = [entry.contender for entry in comparisons[0].entries]
    head = [
        "d×r×p, ε, noise",
        *names,
        "fastest exact rival / ours",
        "certified",
        "worst gap",
        "Mflop a column",
        "products by flops",
        "by time",
        "memory, in targets",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for comparison in comparisons:
        ours = comparison.entries[0].details
        ratio = comparison.ratio()
        cells = [
            comparison.case.name,
            *(_cell(entry) for entry in comparison.entries),
            "" if ratio is None else f"{ratio:.0f}×",
            f"{ours['certified']:.0f}/{comparison.case.targets}",
            f"{ours['gap']:.0e}",
            f"{ours['flops'] / comparison.case.targets / 1e6:.3g}",
            f"{ours['flops'] / ours['flops_of_a_product']:.0f}",
            f"{ours['products_by_time']:.0f}",
            f"{ours['peak_in_targets']:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(entry: Entry) -> str:
    if entry.cpu_per_column is None:
        return entry.note
    time = f"{1e3 * entry.cpu_per_column:.3g}"
    if entry.note:
        return f"> {time}"
    inexact = entry.excess is not None and entry.excess > EXACT
    return f"{time} (excess {entry.excess:.0e})" if inexact else time


def figure(comparisons: Sequence[Comparison], path: Path) -> None:
    """Draw CPU seconds a column of every contender on every problem, logarithmic."""
    from matplotlib.figure import Figure

    plot = Figure(figsize=(8, 0.5 + 0.5 * max(len(comparisons), 3)), layout="constrained")
    axes = plot.add_subplot()
    names = [entry.contender for entry in comparisons[0].entries] if comparisons else []
    for name in names:
        points = [
            (entry.cpu_per_column, row)
            for row, comparison in enumerate(comparisons)
            for entry in comparison.entries
            if entry.contender == name and entry.cpu_per_column
        ]
        marker = "D" if name == "depurate" else "o"
        axes.plot([x for x, _ in points], [y for _, y in points], marker, label=name)
    axes.set_xscale("log")
    axes.set_xlabel("CPU seconds a column")
    axes.set_yticks(range(len(comparisons)), [comparison.case.name for comparison in comparisons])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    if names:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    plot.savefig(path)
