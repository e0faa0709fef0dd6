"""What the figures of all studies share: a canvas of small panels, shares over two axes, files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from depurate.report.svg import STYLE
from depurate.reproduce.study import Picture

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GAP = 0.09  # around every panel, in inches
MARKERS = ("o", "s", "^", "D", "v", "P")


def panels(
    columns: int, rows: int = 1, *, width: float = 300, height: float = 250
) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels of the same size, row by row.

    Args:
        columns: Panels side by side.
        rows: Panels one above the other.
        width: Of a panel, 72 units an inch.
        height: Of a panel.
    """
    size = (width * columns / 72, height * rows / 72)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=_GAP, w_pad=_GAP))
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def heat(axes: Axes, x: Sequence[float], y: Sequence[float], share: np.ndarray) -> None:
    """Show a share between 0 and 1 over two axes, cells centred on the values of x and y; NaN stays empty."""
    axes.pcolormesh(_edges(x), _edges(y), share.T, cmap="Blues_r", vmin=0, vmax=1, edgecolors="face", lw=0.5)
    axes.grid(False)


def save(picture: Picture, folder: Path) -> tuple[Path, Path]:
    """Write a figure as PNG and as SVG.

    Returns:
        Both paths.
    """
    paths = folder / f"{picture.key}.png", folder / f"{picture.key}.svg"
    with style.context(["default", STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        picture.figure.savefig(paths[0], dpi=144, facecolor="white", metadata={"Software": None})
        picture.figure.savefig(paths[1], facecolor="white", metadata={"Date": None})
    return paths


def _edges(centres: Sequence[float]) -> np.ndarray:
    values = np.asarray(centres, dtype=float)
    if len(values) == 1:
        return np.array([values[0] - 0.01, values[0] + 0.01])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])
