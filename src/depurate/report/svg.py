"""Matplotlib figures as inline SVG: one house style, no link to anything, equal bytes for equal records."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import ParamSpec, TypeVar
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")
T = TypeVar("T")

# Okabe and Ito's colours, told apart with any colour vision; each use also differs in shape or line.
BLUE, VERMILLION, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#8a8f98", "#1d2430"

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#b4bac4",
    "axes.grid": True,
    "axes.labelcolor": "#454c59",
    "axes.labelsize": 10,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "font.size": 10,
    "grid.color": "#e6e9ee",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "depurate",
    "text.color": INK,
    "xtick.color": "#b4bac4",
    "xtick.labelcolor": "#454c59",
    "xtick.labelsize": 9.5,
    "ytick.color": "#b4bac4",
    "ytick.labelcolor": "#454c59",
    "ytick.labelsize": 9.5,
}


@dataclass(frozen=True)
class Panel:
    """One picture: SVG text to stand in a page, and the same in words for those who cannot see it."""

    svg: str
    words: str


@dataclass(frozen=True)
class Drawing:
    """One figure of the report: its panels, or none and the reason why.

    Attributes:
        key: Short name, used for identifiers in the page.
        title: Heading.
        caption: What is shown and how it was selected; where there is no panel, why not.
        panels: The pictures, in reading order.
        columns: Panels side by side where there is room; 1 for one that needs the page's full width.
    """

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...] = ()
    columns: int = 3


def house_style(draw: Callable[P, T]) -> Callable[P, T]:
    """Run a drawing function in the report's own style, whatever the user's matplotlib settings are."""

    @wraps(draw)
    def styled(*args: P.args, **kwargs: P.kwargs) -> T:
        with style.context(["default", STYLE]):
            return draw(*args, **kwargs)

    return styled


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure with one axes; its margins are fixed, so that panels in a row line up.

    Args:
        width: In SVG units, 72 an inch; one unit is about one pixel of the page.
        height: In the same units.

    Returns:
        The figure and its axes.
    """
    figure = Figure(figsize=(width / 72, height / 72))
    axes = figure.subplots()
    figure.subplots_adjust(52 / width, 46 / height, 1 - 12 / width, 1 - 24 / height)
    return figure, axes


def wide_canvas(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """Make a figure with axes side by side that share their vertical axis, laid out around its labels.

    Args:
        width: In SVG units, 72 an inch; one unit is about one pixel of the page.
        height: In the same units.
        columns: How many axes.

    Returns:
        The figure and its axes from left to right.
    """
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, list(figure.subplots(1, columns, sharey=True, squeeze=False)[0])


def panel(figure: Figure, key: str, words: str) -> Panel:
    """Turn the figure into a panel of the page.

    Namespaces, the date, matplotlib's global style sheet and identifiers that nothing refers to are taken
    out: in one page with many figures they would clash. Those left are made unique with `key`.

    Args:
        figure: What was drawn.
        key: A name no other panel of the page has.
        words: The text alternative.

    Returns:
        The panel.
    """
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Text stays text and the browser has its own fonts, so a sign matplotlib's font lacks is no fault.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    _localise(root, key)
    for size in ("width", "height"):
        root.attrib.pop(size, None)
    root.set("role", "img")
    root.set("aria-label", words)
    return Panel(ElementTree.tostring(root, encoding="unicode"), words)


def _localise(root: ElementTree.Element, key: str) -> None:
    text = ElementTree.tostring(root, encoding="unicode")
    referred = set(re.findall(r"url\(#([^)]+)\)", text)) | set(re.findall(r'href="#([^"]+)"', text))
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            if name == "id" and value not in referred:
                continue
            plain = name.rpartition("}")[2]
            if plain == "id":
                value = f"{key}-{value}"
            elif plain in {"d", "x", "y", "transform", "points"}:
                value = re.sub(r"-?\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}", value)
            value = re.sub(r"url\(#", f"url(#{key}-", value)
            element.set(plain, re.sub(r"^#(?=.)", f"#{key}-", value) if plain == "href" else value)
