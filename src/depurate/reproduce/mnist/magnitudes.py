"""Study: noise of five magnitudes, from a hundredth of the output weights to a hundred times them."""

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
from depurate.reproduce.figures import heat, panels
from depurate.reproduce.mnist.digits import account, train_task
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table

_SCALES = (0.01, 0.1, 1.0, 10.0, 100.0)
_FRACTIONS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class MagnitudeCase:
    """A network trained on n digits, hit by noise of several scales at several ε.

    Attributes:
        n: Training images.
        scales: Standard deviations of the noise; kernels start at 1/√k = 0.05, output weights at 1.
        fractions: ε.
        seed: Of images, initialisation and noise.
    """

    n: int
    scales: tuple[float, ...]
    fractions: tuple[float, ...]
    seed: int


def run(folder: Path, case: MagnitudeCase) -> dict[str, Any]:
    """Train once, contaminate and recover for every scale and ε."""
    task = train_task(folder, case.n, case.seed)
    found = []
    for scale in case.scales:
        for fraction in case.fractions:
            # The same places and signs at every scale: only the size differs.
            seed = stream(case.seed, f"noise {fraction}")
            suspect = contaminate_network(task.trained.final, fraction, Gaussian(scale), seed=seed)
            recovery = recover(suspect, task.trained.initial, task.patches)
            one = account(task, suspect, recovery, task.patches)
            found.append({"scale": scale, "fraction": fraction, **one})
    return {"runs": found}


def study(folder: Path, *, quick: bool, seeds: int) -> Study:
    """20 training images, scales 0.01 to 100."""
    scales, fractions = ((0.01, 1.0), (0.1, 0.3)) if quick else (_SCALES, _FRACTIONS)
    cases = tuple(MagnitudeCase(20, scales, fractions, seed) for seed in range(seeds))
    question = "Does the size of the noise matter? For l1 it should not: only where it hits does."
    return Study("magnitudes", "Five magnitudes", question, 2, cases, partial(run, folder), draw, tabulate)


def _cells(records: Sequence[Record]) -> dict[tuple[float, float], list[dict[str, Any]]]:
    cells: dict[tuple[float, float], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        for one in record.results["runs"]:
            cells[one["scale"], one["fraction"]].append(one)
    return dict(sorted(cells.items()))


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Accuracy before and after, and exact kernels, over scale and ε."""
    cells = _cells(records)
    scales, levels = sorted({s for s, _ in cells}), sorted({e for _, e in cells})
    figure, axes = panels(3, width=330)
    names = {
        "accuracy_before": "accuracy before",
        "accuracy_after": "accuracy after",
        "exact": "kernels exact",
    }
    for panel, (name, title) in zip(axes, names.items(), strict=True):
        share = np.array([[np.mean([one[name] for one in cells[s, e]]) for e in levels] for s in scales])
        heat(panel, list(range(len(scales))), list(range(len(levels))), share)
        for (i, j), value in np.ndenumerate(share):
            colour = "white" if value < 0.6 else "#1d2430"
            panel.text(i, j, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        panel.set_xticks(range(len(scales)), [f"{s:g}" for s in scales])
        panel.set_yticks(range(len(levels)), [f"{e:g}" for e in levels])
        panel.set(title=title, xlabel="scale of the noise", ylabel="ε")
    clean = np.mean([one["accuracy_clean"] for found in cells.values() for one in found])
    caption = f"20 training images; the clean networks' accuracy is {100 * clean:.1f} %. Means over seeds."
    return (Picture("magnitudes", "Noise of five magnitudes", caption, figure, "Shares; see the table."),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Every cell."""
    rows = []
    for (scale, fraction), found in _cells(records).items():
        worst = max(one["worst_kernel_error"] for one in found)
        numbers = [
            f"{100 * np.mean([one[f'accuracy_{when}'] for one in found]):.1f}"
            for when in ("clean", "before", "after")
        ]
        exact, certified = (f"{np.mean([one[name] for one in found]):.3f}" for name in ("exact", "certified"))
        proved = f"{np.mean([one['output_certified'] for one in found]):.2f}"
        rows.append((f"{scale:g}", f"{fraction:g}", *numbers, exact, certified, proved, f"{worst:.1e}"))
    columns = (
        "scale",
        "ε",
        "clean",
        "before",
        "after",
        "exact",
        "certified",
        "β certified",
        "worst kernel error",
    )
    return (Table("Accuracy in % and shares of kernels", columns, tuple(rows)),)
