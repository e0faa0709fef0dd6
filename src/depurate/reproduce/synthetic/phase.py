"""What the two phase transitions share: from breaks to shares, the level of one half, the drawing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from depurate.paper import adversarial_limit, l1_threshold
from depurate.reproduce.figures import COLOURS, MARKERS, heat, panels
from depurate.reproduce.study import Picture, Record
from depurate.reproduce.synthetic.noise import ADVERSARY

GRID = tuple(round(0.02 * step, 2) for step in range(1, 41))
"""ε at which recovery is tried: 0.02 to 0.80."""
NEARBY = 0.02
"""How far below the threshold a search for the break begins."""


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
    if law == ADVERSARY:
        return min(adversarial_limit(), l1_threshold(ratio))
    return l1_threshold(ratio, imbalance=1.0 if mean and law == "same-sign" else 0.0)


@dataclass(frozen=True)
class Map:
    """What one panel shows.

    Attributes:
        title: Of the panel.
        law: Of the noise.
        mean: Whether the design nearly holds the vector of ones.
        sizes: Curves by the length of a weight vector.
    """

    title: str
    law: str
    mean: bool
    sizes: Mapping[int, Sequence[Curve]]


def draw_maps(
    key: str, title: str, caption: str, maps: Sequence[Map], which: str, names: tuple[str, str]
) -> Picture:
    """Draw a panel for each map, and one with the distance of all measured levels from theory.

    Args:
        key: File name of the picture.
        title: Its heading.
        caption: Below it.
        maps: At least one.
        which: `exact` or `certified`.
        names: Of the ratio and of the size, such as `nm / k` and `k`.
    """
    columns = min(3, len(maps) + 1)
    figure, axes = panels(columns, -(-(len(maps) + 1) // columns))
    for spare in axes[len(maps) + 1 :]:
        spare.remove()
    for panel, one in zip(axes, maps, strict=False):
        _draw_map(panel, one, which, names)
    _draw_distances(axes[len(maps)], maps, which, names)
    words = "; ".join(
        f"{one.title}, {names[1]} = {size}: measured half level within {_worst(one, found, which):.3f} of the line"
        for one in maps
        for size, found in sorted(one.sizes.items())
    )
    return Picture(key, title, caption, figure, words)


def _draw_map(axes: Axes, one: Map, which: str, names: tuple[str, str]) -> None:
    small = min(one.sizes)
    found = one.sizes[small]
    ratios = [curve.ratio for curve in found]
    heat(
        axes,
        ratios,
        GRID,
        np.array([curve.exact if which == "exact" else curve.certified for curve in found]),
    )
    fine = np.linspace(0.02, 0.9, 120)
    axes.plot(fine, [threshold(r, one.law, one.mean) for r in fine], color=COLOURS[1], lw=2, label="theory")
    for (size, several), marker in zip(sorted(one.sizes.items()), ("o", "D"), strict=False):
        style: dict[str, Any] = {"color": "white", "mec": "#1d2430", "ms": 6, "marker": marker, "ls": "none"}
        halves = [curve.half(which) for curve in several]
        axes.plot([curve.ratio for curve in several], halves, label=f"half, {names[1]} = {size}", **style)
    step = (ratios[-1] - ratios[0]) / max(1, len(ratios) - 1) / 2 or 0.02
    axes.set(xlim=(ratios[0] - step, ratios[-1] + step), ylim=(0.01, 0.79), xlabel=names[0], ylabel="ε")
    axes.set_title(one.title)
    axes.legend(loc="upper right", labelcolor="#1d2430", frameon=True, framealpha=0.9, edgecolor="none")


def _draw_distances(axes: Axes, maps: Sequence[Map], which: str, names: tuple[str, str]) -> None:
    axes.axhspan(-0.03, 0.03, color="#e6e9ee", lw=0)
    axes.axhline(0, color=COLOURS[1], lw=2)
    for i, one in enumerate(maps):
        # Theory gives a limit for an adversary, not a threshold.
        if one.law == ADVERSARY:
            continue
        large = max(one.sizes)
        found = one.sizes[large]
        apart = [curve.half(which) - threshold(curve.ratio, one.law, one.mean) for curve in found]
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
        if i >= len(COLOURS):
            style["mfc"] = "white"
        label = f"{one.title}, {names[1]} = {large}"
        axes.plot([c.ratio for c in found], apart, label=label, lw=1, ms=4, **style)
    axes.set(title="measured − theory", xlabel=names[0], ylabel="ε", ylim=(-0.06, 0.1))
    axes.legend(fontsize=7.5, loc="upper left")


def _worst(one: Map, found: Sequence[Curve], which: str) -> float:
    return max(abs(curve.half(which) - threshold(curve.ratio, one.law, one.mean)) for curve in found)
