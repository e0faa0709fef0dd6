"""What a person sees in the terminal: progress bars on standard error, tables on standard output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from depurate.analysis import TensorFinding
from depurate.checkpoints import Checkpoint
from depurate.checkpoints.quoting import quote
from depurate.purification import Progress as Report
from depurate.recovery import Agreement, Guarantee, LayerRecord, PurifyRecord
from depurate.report.counting import has_kernels, uncovered_share
from depurate.report.formats import plural

_ROWS = 30
_COLOURS = {
    "exact": "green",
    "unchanged": "green",
    "partial": "yellow",
    "approximate": "yellow",
    "none": "red",
}


@contextmanager
def progress_bars(console: Console) -> Iterator[Report]:
    """Show a bar for each phase of a long work, with the time that is left.

    Args:
        console: Where to; nothing is drawn unless it is a terminal.

    Yields:
        A callback for `purify`.
    """
    columns = (TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bars:

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield report


def layer_table(layers: Sequence[LayerRecord]) -> Table:
    """Lay out what happened to each layer; BatchNorm statistics and rows past 30 are left to the report."""
    weighted = [layer for layer in layers if has_kernels(layer)]
    shown = sorted(weighted, key=lambda layer: -layer.moved)[:_ROWS]
    less, normed = len(weighted) - len(shown), len(layers) - len(weighted)
    left_out = [f"{plural(less, 'layer')} that moved less"] * (less > 0)
    left_out += [plural(normed, "BatchNorm layer")] * (normed > 0)
    table = Table(box=box.SIMPLE_HEAD, caption=f"not shown: {', '.join(left_out)}" if left_out else None)
    # Folded, not cut: long names differ in their middles.
    table.add_column("layer", overflow="fold", max_width=26)
    for heading in ("kernels", "hit", "certified", "moved"):
        table.add_column(heading, justify="right")
    table.add_column("method")
    table.add_column("guarantee")
    for layer in weighted:
        if layer in shown:
            table.add_row(
                Text(quote(layer.name)),
                f"{layer.kernels:,}",
                f"{layer.contaminated:,}",
                f"{layer.certified:,}" if layer.gap is not None else "-",
                f"{layer.moved:.1%}" if layer.moved < 10 else "over 10x",
                layer.method if layer.strength is None else f"{layer.method} {layer.strength:g}",
                guarantee_text(layer.guarantee),
            )
    return table


def guarantee_text(guarantee: Guarantee) -> Text:
    """Colour a guarantee: green is proven or untouched, yellow an estimate, red nothing."""
    return Text(guarantee.value, style=_COLOURS[guarantee.value])


def finding_table(findings: Sequence[TensorFinding]) -> Table:
    """Lay out what `inspect` saw in each tensor."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("tensor", overflow="fold", max_width=30)
    for heading in ("entries", "peak", "update"):
        table.add_column(heading, justify="right")
    table.add_column("finding")
    for finding in findings:
        table.add_row(
            Text(quote(finding.name)),
            f"{finding.entries:,}",
            "-" if finding.peak is None else f"{finding.peak:.3g}x",
            "-" if finding.update is None else f"{finding.update:.2g}",
            Text(finding.finding, style="" if finding.finding == "nothing seen" else "yellow"),
        )
    return table


def print_choice(console: Console, read: Checkpoint | None) -> None:
    """Say which of several state dicts in a file was taken; nothing where there was one."""
    if read is not None and read.left_out:
        console.print(Text(f"{read.path}: read {read.entry}"))


def print_summary(console: Console, record: PurifyRecord) -> None:
    """Print the account of a purification: the layers, the agreement, the guarantee, every warning."""
    console.print(layer_table(record.layers))
    console.print(
        Text("guarantee: ")
        .append_text(guarantee_text(record.guarantee))
        .append(f" ({record.guarantee.sentence})")
    )
    if record.agreement is not None:
        console.print(Text(f"benign images: {agreement_words(record.agreement, record.compared)}"))
    if record.untouched:
        console.print(
            Text(
                f"not covered by any recovery: {plural(len(record.untouched), 'parameter')}{uncovered_share(record)} "
                "(--report names them)"
            )
        )
    for warning in record.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"))


def agreement_words(agreement: Agreement, compared: str = "suspect") -> str:
    """Put an agreement into words."""
    return (
        f"the purified network answers like the {compared} on {agreement.agreement:.1%} of {agreement.images} "
        f"held-back images (95 % interval {agreement.low:.1%} to {agreement.high:.1%}); expected loss of accuracy "
        f"{100 * agreement.expected_loss:.2f} points"
    )
