"""The account of one layer: what was found, moved and guaranteed, and the numbers its plots need."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from depurate.recovery import (
    Guarantee,
    Histogram,
    LayerOutcome,
    LayerRecord,
    NoiseEstimate,
    Repair,
    Spectrum,
    hit_statistics,
)
from depurate.spans import Span, span_of

_WIDEST_SPECTRUM = 1024
_BINS, _BARS = 512, 40
_LEADING = 0.99
# Weights looked at together: dense layers of VGGs have a hundred million, and every sum in float64 takes a few copies.
_AT_ONCE = 1 << 22


def describe(outcome: LayerOutcome) -> LayerRecord:
    """Turn what the walk did to a layer into the record that reports show.

    Args:
        outcome: From `recovery.walk`.

    Returns:
        The layer's record; its notes name every failure signature that was seen.
    """
    groups, kernels, fan_in = outcome.suspect.shape
    if outcome.moments is None:
        return _batchnorm(outcome)
    spans = [span_of(outcome.moments, group, at_most=_WIDEST_SPECTRUM) for group in range(groups)]
    certified = sum(int(fit.certified.sum()) for fit in outcome.fits)
    rank = outcome.fits[0].rank if outcome.fits else spans[0].rank
    return LayerRecord(
        name=outcome.site.name,
        kind=outcome.site.kind,
        fan_in=fan_in,
        kernels=groups * kernels,
        patches=outcome.moments.count,
        rank=rank,
        method=outcome.method,
        strength=None,
        nonfinite=int((~outcome.suspect.isfinite()).sum()),
        contaminated=int(outcome.hits.sum()),
        certified=certified,
        gap=max((fit.gap.max().item() for fit in outcome.fits), default=None),
        margin=max((fit.margin.max().item() for fit in outcome.fits), default=None),
        moved=moved_by(outcome.suspect, outcome.purified),
        off_span=_off_span(outcome, spans),
        guarantee=_guarantee(outcome, certified, groups * kernels),
        notes=_notes(outcome, certified, rank),
        spectrum=_spectrum(outcome, spans),
        residuals=histogram_of(outcome.suspect, outcome.purified, outcome.anchor),
        seconds=outcome.seconds,
        noise=noise_of(outcome),
    )


def noise_of(outcome: LayerOutcome) -> NoiseEstimate | None:
    """What a layer's repair estimates of its noise, or None where nothing was repaired."""
    repair = outcome.repair
    if repair is None or outcome.method != "robust":
        return None
    return NoiseEstimate(repair.share, repair.noise, repair.precision, repair.unflipped)


def _batchnorm(outcome: LayerOutcome) -> LayerRecord:
    bad = int(outcome.hits.sum())
    changed = outcome.method == "statistics"
    return LayerRecord(
        name=outcome.site.name,
        kind=outcome.site.kind,
        fan_in=2,  # a mean and a variance a channel
        kernels=outcome.suspect.shape[2],
        patches=0,
        rank=0,
        method=outcome.method,
        strength=None,
        nonfinite=int((~outcome.suspect.isfinite()).sum()),
        contaminated=bad,
        certified=0,
        gap=None,
        margin=None,
        moved=moved_by(outcome.suspect, outcome.purified),
        off_span=None,
        guarantee=Guarantee.APPROXIMATE if changed else Guarantee.UNCHANGED,
        notes=_statistics_notes(outcome) if changed else (),
        seconds=outcome.seconds,
    )


def _statistics_notes(outcome: LayerOutcome) -> tuple[str, ...]:
    hits = outcome.hits
    kept = torch.equal(outcome.purified[~hits], outcome.suspect[~hits])
    anew = "estimated anew on the benign images"
    if not hits.any():
        return (f"running statistics {anew}",)
    which = "all others returned bit for bit" if kept else "and so were all others"
    certain = hits & hit_statistics(*outcome.suspect[0])[None]
    kinds = {
        "running statistics arrived as NaN, Inf, negative or absurdly large": int(certain.sum()),
        "running statistics are far from what the benign images show": int((hits & ~certain).sum()),
    }
    said = " and ".join(f"{found:,} of {hits.numel():,} {kind}" for kind, found in kinds.items() if found)
    return (f"{said}: {anew}, {which}",)


def _summable(values: Tensor) -> Tensor:
    """Mark the entries whose squares can be summed: neither NaN nor Inf nor, in float64, near overflow."""
    return values.double().abs() < 1e100


def _finite(suspect: Tensor, anchor: Tensor) -> Tensor:
    """The suspect's kernels with what cannot be summed put back to the anchor."""
    return torch.where(_summable(suspect), suspect, anchor).double()


def moved_by(suspect: Tensor, purified: Tensor) -> float:
    """‖purified − suspect‖ / ‖suspect‖ over what can be summed.

    >>> moved_by(torch.tensor([3.0, 4.0, torch.nan]), torch.tensor([3.0, 4.0, 9.0]))
    0.0
    """
    moved = total = 0.0
    for before, after in _parts(suspect, purified):
        finite = _summable(before)
        known = before.double().where(finite, 0)
        moved += float((after.double().where(finite, 0) - known).square().sum())
        total += float(known.square().sum())
    distance, size = math.sqrt(moved), math.sqrt(total)
    # What was nothing has moved by all that it is now.
    return distance / size if size else float(distance > 0)


def _off_span(outcome: LayerOutcome, spans: list[Span]) -> float | None:
    total = inside = 0.0
    for group, span in enumerate(spans):
        leading = span.holding(_LEADING).directions
        for suspect, anchor in _parts(outcome.suspect[group], outcome.anchor[group]):
            update = _finite(suspect, anchor) - anchor.double()
            total += float(update.square().sum())
            inside += float((update @ leading).square().sum())
    return min(max(1 - inside / total, 0.0), 1.0) if total else None


def _guarantee(outcome: LayerOutcome, certified: int, kernels: int) -> Guarantee:
    if outcome.method == "exact":
        if certified == kernels:
            return Guarantee.EXACT
        if certified:
            return Guarantee.PARTIAL
        if torch.equal(outcome.purified, outcome.suspect):
            return Guarantee.UNCHANGED
        return Guarantee.APPROXIMATE if outcome.truncated or outcome.doubted else Guarantee.NONE
    return Guarantee.UNCHANGED if torch.equal(outcome.purified, outcome.suspect) else Guarantee.APPROXIMATE


def _notes(outcome: LayerOutcome, certified: int, rank: int) -> tuple[str, ...]:
    assert outcome.moments is not None
    notes = []
    fan_in = outcome.suspect.shape[2]
    nonfinite = int((~outcome.suspect.isfinite()).sum())
    found = int(outcome.hits.sum())
    if nonfinite:
        notes.append(f"{nonfinite:,} of {outcome.suspect.numel():,} entries arrived as NaN or Inf")
    if found and outcome.method == "filled":
        notes.append(
            f"{found:,} hit entries replaced by their conditional mean; all others returned bit for bit"
        )
    if outcome.repair is not None and outcome.method == "robust":
        notes += _robust_notes(outcome.repair)
    if outcome.method == "exact":
        notes += _exact_notes(outcome, certified, rank)
    if outcome.method == "soft" and outcome.moments.dual:
        notes.append(
            f"only {outcome.moments.count:,} benign patches for a fan-in of {fan_in:,}: directions they do not "
            f"reach {'keep the anchor' if outcome.anchored else 'shrink to zero'}"
        )
    if outcome.method == "none" and torch.equal(outcome.suspect, outcome.anchor):
        notes.append("equal to the anchor: never trained, nothing to undo")
    return tuple(notes)


def _robust_notes(repair: Repair) -> list[str]:
    found, size = int(repair.hits.sum()), repair.hits.numel()
    notes = [
        f"sparse noise: {found:,} of {size:,} entries do not fit the rest of the layer and were replaced by their "
        f"conditional mean, all others returned bit for bit; estimated share hit {repair.share:.2%}, expected "
        f"precision of the localisation {repair.precision:.1%}"
    ]
    if repair.noise is not None:
        notes.append(f"estimated scale of the noise: {repair.noise:.3g}")
    if repair.unflipped:
        notes.append(
            f"{repair.unflipped:,} of them are one bit away from a fitting value and were restored to it"
        )
    return notes


def _exact_notes(outcome: LayerOutcome, certified: int, rank: int) -> list[str]:
    groups, kernels, fan_in = outcome.suspect.shape
    notes = []
    if outcome.truncated:
        notes.append(
            f"the benign patches span all {fan_in:,} directions, so sparse noise cannot be told from training: "
            f"the span was cut to its {rank:,} leading directions and nothing is certified"
        )
    elif outcome.doubted:
        notes.append(
            "what reaches this layer was made by layers or parameters that are estimates: l1 was fitted to it all the "
            "same, and nothing is certified"
        )
    elif certified < groups * kernels:
        notes += _uncertified(outcome, groups * kernels - certified, f"rank {rank:,} of {fan_in:,}")
    gap = max(fit.gap.max().item() for fit in outcome.fits)
    if gap > 1e-6:
        notes.append(f"the solver stopped at a relative duality gap of {gap:.1e}")
    return notes


def _uncertified(outcome: LayerOutcome, count: int, rank: str) -> list[str]:
    """Say why kernels are not certified."""
    of = f"{count:,} of {outcome.suspect.shape[0] * outcome.suspect.shape[1]:,} kernels not certified"
    idle = sum(int(fit.idle.sum()) for fit in outcome.fits)
    if any(bool(fit.odd.any()) for fit in outcome.fits):
        return [
            f"{of}: the biases of nearly all kernels are not what the span says, as biases trained at a rate of their "
            "own or lost altogether are; they were left as they are"
        ]
    notes = [f"{of}: noise too dense or inside the span ({rank})"] if count > idle else []
    if idle:
        notes.append(
            f"{idle:,} kernels hold hardly anything but zeros, of which nothing tells whether they are pruned, lost or "
            "never moved: not certified, and left as they are"
        )
    return notes


def _spectrum(outcome: LayerOutcome, spans: list[Span]) -> Spectrum:
    # Groups have spans of their own; the first one stands for the layer, as its plot.
    span = spans[0]
    suspect, purified, anchor = (
        kernels[0] for kernels in (outcome.suspect, outcome.purified, outcome.anchor)
    )
    # Energy along each direction and, last, in all.
    before, after = (span.energy.new_zeros(len(span.energy) + 1, dtype=torch.float64) for _ in range(2))
    for theirs, ours, start in _parts(suspect, purified, anchor):
        before += _energies(_finite(theirs, start) - start.double(), span)
        after += _energies(ours.double() - start.double(), span)
    shares = [energies[:-1] / energies[-1].clamp_min(1e-300) for energies in (before, after)]
    held, along, left = (_binned(values) for values in (span.energy, *shares))
    return Spectrum(held, along, left, span.rank)


def _energies(update: Tensor, span: Span) -> Tensor:
    along = (update @ span.directions).square().sum(0)
    return torch.cat([along, update.square().sum()[None]])


def _binned(values: Tensor) -> tuple[float, ...]:
    width = max(1, -(-len(values) // _BINS))
    padded = torch.nn.functional.pad(values, (0, -len(values) % width))
    return tuple(padded.reshape(-1, width).sum(1).tolist())


def histogram_of(suspect: Tensor, purified: Tensor, anchor: Tensor | None = None) -> Histogram | None:
    """Counts of what was taken away, or None where nothing was; what cannot be summed counts as the anchor, or zero.

    >>> histogram_of(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0])).zeros
    1
    """
    start = torch.zeros_like(suspect) if anchor is None else anchor
    least, most, found = math.inf, 0.0, 0
    for part in _parts(suspect, purified, start):
        sizes = _sizes_taken(*part)
        found += len(sizes)
        if len(sizes):
            least, most = min(least, float(sizes.min())), max(most, float(sizes.max()))
    if not found:
        return None
    low = math.log10(least)
    high = max(math.log10(most), low + 1e-3)
    edges = torch.linspace(low, high, _BARS + 1, dtype=torch.float64)
    counts = torch.zeros(_BARS, dtype=torch.float64)
    for part in _parts(suspect, purified, start):
        counts += torch.histogram(_sizes_taken(*part).log10().clamp(low, high), bins=edges).hist
    return Histogram(tuple((10**edges).tolist()), tuple(map(int, counts.tolist())), suspect.numel() - found)


def _sizes_taken(suspect: Tensor, purified: Tensor, anchor: Tensor) -> Tensor:
    taken = (_finite(suspect, anchor) - purified.double()).abs().flatten().cpu()
    return taken[taken > 0]


def _parts(*kernels: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """The same kernels of several tensors of one shape, so many at a time that sums over them take little memory."""
    if kernels[0].ndim == 3:
        kernels = tuple(each.flatten(0, 1) for each in kernels)
    rows = max(1, _AT_ONCE * len(kernels[0]) // max(1, kernels[0].numel()))
    return zip(*(torch.split(each, rows) for each in kernels), strict=True)
