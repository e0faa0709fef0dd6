"""Study: more and more training images, until their span is everything."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from depurate.contamination import Gaussian
from depurate.paper import contaminate_network, recover
from depurate.reproduce.figures import COLOURS, MARKERS, panels
from depurate.reproduce.mnist.digits import account, train_task
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table

_COLUMNS = (
    "n",
    "rank / lit pixels",
    "Gaussian threshold",
    "ε",
    "seeds",
    "exact",
    "certified",
    "β certified",
    "W before",
    "W after",
    "β after",
    "accuracy clean / before / after",
    "false",
)


@dataclass(frozen=True)
class SpanCase:
    """A network trained on n digits, hit and recovered with the same n digits.

    Attributes:
        n: Training images.
        fractions: ε.
        seed: Of images, initialisation and noise.
    """

    n: int
    fractions: tuple[float, ...]
    seed: int


def run(folder: Path, case: SpanCase) -> dict[str, Any]:
    """Train once, contaminate and recover at every ε."""
    task = train_task(folder, case.n, case.seed)
    found = []
    for fraction in case.fractions:
        seed = stream(case.seed, f"noise {fraction}")
        suspect = contaminate_network(task.trained.final, fraction, Gaussian(), seed=seed)
        recovery = recover(suspect, task.trained.initial, task.patches)
        found.append({"fraction": fraction, **account(task, suspect, recovery, task.patches)})
    return {"runs": found}


def study(folder: Path, *, quick: bool, seeds: int) -> Study:
    """5 to 320 images."""
    counts = (5, 80) if quick else (5, 10, 20, 40, 80, 160, 320)
    cases = tuple(SpanCase(n, _fractions(n, quick), seed) for seed in range(seeds) for n in counts)
    question = (
        "A network of 300 kernels of 28x14 pixels learns to tell even from odd digits from n images. With few images "
        "the span of their patches leaves room; with more it fills. Where does recovery break, and do the "
        "certificates say so?"
    )
    title = "More training images, until the span fills"
    return Study("digits", title, question, 2, cases, partial(run, folder), draw, tabulate)


def _fractions(count: int, quick: bool) -> tuple[float, ...]:
    """ε worth trying: past the threshold of a well filled span the answer is known and costs most."""
    every = (0.1, 0.3) if quick else (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
    most = 0.5 if count <= 40 else 0.3 if count <= 80 else 0.1 if count <= 160 else 0.05
    return tuple(fraction for fraction in every if fraction <= most) or every[:1]


def _cells(records: Sequence[Record]) -> dict[tuple[int, float], list[dict[str, Any]]]:
    cells: dict[tuple[int, float], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        for one in record.results["runs"]:
            cells[record.config["n"], one["fraction"]].append(one)
    return dict(sorted(cells.items()))


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Exact and certified kernels, and accuracy, over the number of images."""
    cells = _cells(records)
    counts, levels = sorted({n for n, _ in cells}), sorted({e for _, e in cells})
    figure, axes = panels(3, width=330)

    def mean(name: str, n: int, level: float) -> float:
        return float(np.mean([one[name] for one in cells[n, level]]))

    for i, level in enumerate(levels):
        style: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i]}
        tried = [n for n in counts if (n, level) in cells]
        axes[0].plot(tried, [mean("exact", n, level) for n in tried], label=f"ε = {level:g}", **style)
        axes[1].plot(tried, [mean("certified", n, level) for n in tried], **style)
        axes[2].plot(tried, [100 * mean("accuracy_after", n, level) for n in tried], **style)
        before = [100 * mean("accuracy_before", n, level) for n in tried]
        axes[2].plot(tried, before, color=COLOURS[i], ls=":", lw=1)
    for panel in axes[:2]:
        panel.set_ylim(-0.04, 1.04)
    clean = [100 * mean("accuracy_clean", n, levels[0]) for n in counts]
    axes[2].plot(counts, clean, color="#1d2430", lw=3, alpha=0.3, label="clean")
    axes[2].plot([], [], color="#8a8f98", ls=":", label="before recovery")
    for panel, title in zip(axes, ("kernels exact", "kernels certified", "accuracy, %"), strict=True):
        panel.set(title=title, xscale="log", xlabel="training images n")
        panel.set_xticks(counts, [str(n) for n in counts])
        panel.minorticks_off()
    axes[0].legend(fontsize=8)
    axes[2].legend(fontsize=8)
    false = sum(one["false"] for found in cells.values() for one in found)
    caption = (
        "Means over seeds; p = 300, m = 2, k = 392, Gaussian noise of scale 1 on every weight with probability ε. "
        f"Certificates of wrong kernels: {false}. Accuracy is measured on 2,000 other digits; its dotted lines are the "
        "contaminated networks."
    )
    words = f"Curves over n; the table has the numbers. Certificates of wrong kernels: {false}."
    return (Picture("digits", "Exact, certified, accurate", caption, figure, words),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Every cell."""
    rows = []
    for (n, fraction), found in _cells(records).items():

        def mean(name: str, found: list[dict[str, Any]] = found) -> float:
            return float(np.mean([one[name] for one in found]))

        rows.append(
            (
                str(n),
                f"{mean('rank'):.0f} / {mean('lit'):.0f}",
                f"{mean('threshold'):.2f}",
                f"{fraction:g}",
                str(len(found)),
                f"{mean('exact'):.3f}",
                f"{mean('certified'):.3f}",
                f"{mean('output_certified'):.2f}",
                f"{mean('kernel_error_before'):.1e}",
                f"{mean('kernel_error'):.1e}",
                f"{mean('output_error'):.1e}",
                " / ".join(f"{100 * mean(f'accuracy_{when}'):.1f}" for when in ("clean", "before", "after")),
                str(sum(one["false"] for one in found)),
            )
        )
    caption = (
        "Lit pixels: those not black in every training patch; the others tell nothing of the coefficients. Gaussian "
        "threshold: what theory gives for a random span of that rank. W before and after: median relative error of a "
        "kernel."
    )
    return (Table("More and more images", _COLUMNS, tuple(rows), caption),)
