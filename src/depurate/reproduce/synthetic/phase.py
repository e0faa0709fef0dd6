"""What the two phase transitions share: from breaks to shares, the level of one half, the drawing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from depurate.paper import adversarial_limit, l1_threshold
from depurate.reproduce.figures import heat
from depurate.reproduce.study import Record

GRID = tuple(round(0.02 * step, 2) for step in range(1, 41))
"""ε at which recovery is tried: 0.02 to 0.80."""


@dataclass(frozen=True)
class Curve:
    """Recovery over ε at one ratio.

    Attributes:
        ratio: nm/k or n/p.
        exact: Share of weight vectors recovered exactly at each ε of the grid.
        certified: Share certified.
        vectors: Weight vectors behind it, and independent designs that they come from.
        designs: See above.
        false: Certified solutions that were wrong.
    """

    ratio: float
    exact: tuple[float, ...]
    certified: tuple[float, ...]
    vectors: int
    designs: int
    false: int

    def half(self, which: str = "exact") -> float:
        """ε at which half the weight vectors are recovered, between grid points by straight lines."""
        shares = (1.0, *(self.exact if which == "exact" else self.certified), 0.0)
        levels = (0.0, *GRID, GRID[-1] + 0.02)
        for i in range(1, len(shares)):
            if shares[i] <= 0.5:
                return levels[i - 1] + (levels[i] - levels[i - 1]) * (shares[i - 1] - 0.5) / (
                    shares[i - 1] - shares[i]
                )
        return levels[-1]

    def against(self, theory: float) -> tuple[str, ...]:
        """Cells of a table row: ratio, designs and vectors, ε exact, certified and in theory, difference, false."""
        half = self.half()
        return (
            f"{self.ratio:g}",
            f"{self.designs} / {self.vectors}",
            f"{half:.3f}",
            f"{self.half('certified'):.3f}",
            f"{theory:.3f}",
            f"{half - theory:+.3f}",
            str(self.false),
        )


def curves(records: Iterable[Record], names: Sequence[str]) -> dict[tuple[object, ...], tuple[Curve, ...]]:
    """Gather records that agree in all `names` of their config into curves, one a ratio."""
    groups: dict[tuple[object, ...], dict[float, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        groups[tuple(record.config[name] for name in names)][record.config["ratio"]].append(record)
    return {
        key: tuple(_curve(ratio, found) for ratio, found in sorted(ratios.items()))
        for key, ratios in groups.items()
    }


def _curve(ratio: float, records: Sequence[Record]) -> Curve:
    shares = []
    for which in ("exact", "certified"):
        broke = np.concatenate([record.results[which] for record in records])
        shares.append(tuple(float((broke > i).mean()) for i in range(len(GRID))))
    vectors = sum(len(record.results["exact"]) for record in records)
    false = sum(record.results["false"] for record in records)
    return Curve(ratio, shares[0], shares[1], vectors, len(records), false)


def threshold(ratio: float, law: str, mean: bool) -> float:
    """The theory's ε: noise of one sign matters where features have a mean; an adversary has a limit of its own."""
    if law == "adversarial":
        return min(adversarial_limit(), l1_threshold(ratio))
    return l1_threshold(ratio, imbalance=1.0 if mean and law == "same-sign" else 0.0)


def draw_phase(axes: Axes, found: Sequence[Curve], law: str, *, mean: bool, label: str) -> None:
    """Show the share recovered over ratio and ε, the level of one half, and the theory's threshold."""
    ratios = [curve.ratio for curve in found]
    heat(axes, ratios, GRID, np.array([curve.exact for curve in found]))
    fine = np.linspace(0.02, 0.9, 120)
    axes.plot(fine, [threshold(r, law, mean) for r in fine], color="#D55E00", lw=2, label="theory")
    halves = [curve.half() for curve in found]
    axes.plot(ratios, halves, "o", color="white", mec="#1d2430", ms=6, label="measured, half")
    step = (ratios[-1] - ratios[0]) / max(1, len(ratios) - 1) / 2 or 0.02
    axes.set(xlim=(ratios[0] - step, ratios[-1] + step), ylim=(0.01, 0.79), xlabel=label, ylabel="ε")
    axes.legend(loc="upper right", labelcolor="#1d2430", frameon=True, framealpha=0.9, edgecolor="none")
