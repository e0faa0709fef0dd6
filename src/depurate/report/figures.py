"""The figures of a report; each takes records and returns a drawing, or the reason why there is none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from depurate.recovery.records import Histogram, LayerRecord, Spectrum, Trial, TriggerSearch
from depurate.report.counting import entries, hit_share
from depurate.report.formats import count, percent, plural, points, scientific, shorten
from depurate.report.panels import Reading, residual_panel, row_bars, size_panel, spectrum_panel, trial_panel
from depurate.report.svg import BLUE, GREEN, ORANGE, Drawing, house_style, panel, wide_canvas

ROWS = 28
"""Layers that the figure of all layers shows at most."""
MULTIPLES = 6
"""Layers that the figures with a panel for each layer show at most."""


@house_style
def noise_per_layer(layers: Sequence[LayerRecord]) -> Drawing:
    """Draw, layer by layer in forward order, the known hits, the movement and the off-span share.

    Args:
        layers: The layers' records in forward order.

    Returns:
        One wide panel; with more than `ROWS` layers, those that stand out most.

    >>> noise_per_layer(()).caption
    'Not drawn: the record lists no layers.'
    """
    key, title = "noise", "Where the noise is, and how far each layer moved"
    if not layers:
        return Drawing(key, title, "Not drawn: the record lists no layers.")
    measures: tuple[list[float | None], ...] = (
        [hit_share(layer) for layer in layers],
        [layer.moved for layer in layers],
        [layer.off_span for layer in layers],
    )
    rows = _standing_out(measures, ROWS)
    shown = [layers[row] for row in rows]
    figure, axes = wide_canvas(980, 74 + 19 * len(rows), len(measures))
    broken = [layer.nonfinite / entries(layer) if entries(layer) else 0.0 for layer in shown]
    row_bars(axes[0], [measures[0][row] for row in rows], ORANGE, broken)
    row_bars(axes[1], [measures[1][row] for row in rows], BLUE)
    row_bars(axes[2], [measures[2][row] for row in rows], GREEN)
    axes[0].set(title="Entries taken for hit", xlabel="share of the layer's entries, %")
    axes[1].set(title="Moved", xlabel="‖purified − suspect‖ / ‖suspect‖, %")
    axes[2].set(title="Off-span", xlabel="share of the suspect's update, %")
    axes[0].set_yticks(range(len(rows)), [shorten(layer.name) for layer in shown], parse_math=False)
    axes[0].set_ylim(len(rows) - 0.4, -0.6)
    caption = "Layers in forward order. A dash: not measured."
    caption += " Hatched: arrived as NaN or infinity." if any(broken) else ""
    if len(rows) < len(layers):
        caption += (
            f" Shown: the {len(rows)} of {count(len(layers))} layers that rise most above the median in any of "
            "the three measures, relative to the largest rise. The table has all."
        )
    words = "; ".join(
        f"{shorten(layer.name, 60)}: hit {percent(hit_share(layer))}, moved {percent(layer.moved)}, "
        f"off-span {percent(layer.off_span)}"
        for layer in shown
    )
    return Drawing(key, title, caption, (panel(figure, key, f"Bar chart. {words}."),), columns=1)


@house_style
def spectra(layers: Sequence[LayerRecord]) -> Drawing:
    """Draw the cumulative energy of span, suspect's update and purified update along the leading directions.

    Args:
        layers: The layers' records.

    Returns:
        A panel for each of the most moved layers that have a spectrum.

    >>> spectra(()).caption
    "Not drawn: no layer's spectrum was recorded."
    """
    key, title = "spectra", "Span against update"
    usable = [(layer, layer.spectrum) for layer in layers if layer.spectrum and _complete(layer.spectrum)]
    if not usable:
        return Drawing(key, title, "Not drawn: no layer's spectrum was recorded.")
    order = _most_moved([layer for layer, _ in usable])[:MULTIPLES]
    caption = (
        "Share of energy within the first directions, counted from the strongest. Where the suspect's update "
        "lags behind the span, it uses directions in which benign images hold little; what it lacks to 100 % at the "
        "end lies outside all of them. " + _selection(len(order), len(usable), "spectrum")
    )
    panels = tuple(spectrum_panel(*usable[i], f"{key}{number}") for number, i in enumerate(order))
    return Drawing(key, title, caption, panels)


@house_style
def residual_histograms(layers: Sequence[LayerRecord]) -> Drawing:
    """Draw how large the differences between suspect and purified entries are, on logarithmic axes.

    Args:
        layers: The layers' records.

    Returns:
        A panel for each of the most moved layers that have a histogram with at least one entry.

    >>> residual_histograms(()).caption
    'Not drawn: nothing was taken away from any layer, or it was not recorded.'
    """
    key, title = "taken", "What was taken away"
    usable = [(layer, layer.residuals) for layer in layers if layer.residuals and _drawable(layer.residuals)]
    if not usable:
        reason = "Not drawn: nothing was taken away from any layer, or it was not recorded."
        return Drawing(key, title, reason)
    order = _most_moved([layer for layer, _ in usable])[:MULTIPLES]
    caption = (
        "Entries by the size of their change, |suspect − purified|, in logarithmic bins; unchanged entries "
        "are left out. " + _selection(len(order), len(usable), "histogram")
    )
    panels = tuple(residual_panel(*usable[i], f"{key}{number}") for number, i in enumerate(order))
    return Drawing(key, title, caption, panels)


@house_style
def agreement(trials: Sequence[Trial], layers: Sequence[LayerRecord] = ()) -> Drawing:
    """Draw agreement on held-back images with its 95 % interval, and expected loss, for each strength tried.

    Args:
        trials: The strengths tried.
        layers: The layers' records, some of which may have used more than the strength chosen.

    Returns:
        A panel for the agreement and one for the expected loss.

    >>> agreement(()).caption
    'Not drawn: no strength was tried on held-back images.'
    """
    key, title = "agreement", "The strengths tried"
    if not trials:
        return Drawing(key, title, "Not drawn: no strength was tried on held-back images.")
    ordered = sorted(trials, key=lambda trial: (trial.strength, trial.share))
    shares = len({trial.share for trial in trials}) > 1
    agreed, lost = [], []
    for trial in ordered:
        label, held = scientific(trial.strength), trial.agreement
        if shares:
            label += f"\n{trial.share:.0%}"
        if trial.distilled:
            label += "\ndistilled"
        agreed.append(
            Reading(label, trial.chosen, held.agreement, held.low, held.high, percent(held.agreement))
        )
        loss = held.expected_loss
        lost.append(Reading(label, trial.chosen, loss, loss, loss, points(loss)))
    panels = (
        trial_panel(
            agreed, "Agreement on held-back images", "same answer, % (bars: 95 % interval)", f"{key}0"
        ),
        trial_panel(lost, "Expected loss of accuracy", "predicted loss, percentage points", f"{key}1"),
    )
    images = " or ".join(count(size) for size in sorted({trial.agreement.images for trial in trials}))
    chosen = ", ".join(scientific(trial.strength) for trial in ordered if trial.chosen)
    carried = " Below each strength: the share of the images that each trigger was put on." if shares else ""
    most = max((layer.strength for layer in layers if layer.strength is not None), default=0.0)
    more = ""
    if most > max((trial.strength for trial in trials if trial.chosen), default=most):
        more = f"; layers that see fewer patches than directions use more, up to {scientific(most)}"
    marked = (
        f"The diamond marks the strength chosen, {chosen}{more}." if chosen else "None is marked as chosen."
    )
    caption = (
        f"Measured on {images} benign images that the recovery did not see, without labels. {marked}{carried}"
    )
    return Drawing(key, title, caption, panels, columns=2)


@house_style
def trigger_sizes(search: TriggerSearch | None) -> Drawing:
    """Draw the smallest patch that leads to each class; a backdoor's target needs far less than the others.

    Args:
        search: What the search saw, or None.

    Returns:
        One panel.

    >>> trigger_sizes(None).caption
    'Not drawn: no search for triggers was made.'
    """
    key, title = "triggers", "How easily each class is triggered"
    if search is None or not search.classes:
        return Drawing(key, title, "Not drawn: no search for triggers was made.")
    caption = (
        "Size of the smallest patch found that makes the suspect answer a class on nearly any image. A backdoor is a "
        "short cut: its class needs far less than the others. A dash: no patch was found. "
    )
    if search.side is not None:
        caption += f"Searched for in the middle {search.side} by {search.side} pixels of the pictures. "
    if search.away is not None:
        caption += "Last: the smallest that leads every image away from its own class, to whatever other. "
    if search.known > len(search.classes):
        caption += (
            f"Searched were the {len(search.classes)} of {search.known} classes that are nearest to reach. "
        )
    caption += _taken_for(search)
    return Drawing(key, title, caption, (size_panel(search, key),), columns=1)


def _taken_for(search: TriggerSearch) -> str:
    names = ", ".join(str(name) for name in search.flagged)
    if search.flagged and search.evidence in ("", "patch", "output weights"):
        said = f"Hatched: taken for the target of a backdoor, {names}."
    elif search.flagged:
        said = f"Hatched: taken for the target of a backdoor, {names}, by a trigger of another kind."
    elif search.evidence:
        said = "Taken for a backdoor that sends each class to another."
    else:
        said = "No class is taken for a backdoor; a trigger of another kind would not show here."
    natural = ", ".join(str(name) for name in search.natural if name not in search.flagged)
    if natural:
        said += (
            " Taken for easy by nature, as the suspect's purified self, or a student of its answers to benign "
            f"images, is led there, too: {natural}."
        )
    return said


def _standing_out(measures: Sequence[Sequence[float | None]], limit: int) -> list[int]:
    scores = [0.0] * len(measures[0])
    for values in measures:
        finite = [value for value in values if value is not None and math.isfinite(value)]
        usual = median(finite) if finite else 0.0
        reach = max(finite, default=usual) - usual
        for i, value in enumerate(values):
            if value is not None and not math.isfinite(value):
                scores[i] = math.inf
            elif value is not None and reach:
                scores[i] = max(scores[i], (value - usual) / reach)
    return sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:limit])


def _most_moved(layers: Sequence[LayerRecord]) -> list[int]:
    moves = [layer.moved if math.isfinite(layer.moved) else -math.inf for layer in layers]
    return sorted(range(len(moves)), key=lambda i: -moves[i])


def _selection(shown: int, available: int, thing: str) -> str:
    if shown == available:
        return f"Shown: every layer with a {thing}, the most moved first."
    return f"Shown: the {shown} most moved of {plural(available, 'layer')} with a {thing}."


def _complete(spectrum: Spectrum) -> bool:
    lists = (spectrum.span, spectrum.suspect, spectrum.purified)
    if not spectrum.span or len({len(values) for values in lists}) > 1:
        return False
    return all(math.isfinite(value) for values in lists for value in values)


def _drawable(taken: Histogram) -> bool:
    if len(taken.edges) != len(taken.counts) + 1 or not any(taken.counts):
        return False
    rising = all(low < high for low, high in zip(taken.edges, taken.edges[1:], strict=False))
    return rising and taken.edges[0] > 0 and math.isfinite(taken.edges[-1])
