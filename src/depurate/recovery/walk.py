"""The walk: layers purified in forward order, each on patches from the purified layers before it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from depurate.recovery.anchors import anchor_kernels
from depurate.recovery.batchnorm import (
    least_variances,
    read_statistics,
    statistics_of_passes,
    unlike_measured,
    write_statistics,
)
from depurate.recovery.entries import fill_entries, hit_kernels, hit_statistics
from depurate.recovery.exact import ExactFit, exact_recovery
from depurate.recovery.lesson import Lesson
from depurate.recovery.robust import Repair, repair_entries
from depurate.recovery.soft import soft_recovery
from depurate.spans import (
    Moments,
    Passes,
    Sampling,
    Site,
    Span,
    measure_passes,
    read_kernels,
    span_of,
    write_kernels,
)

# When `auto` tries exact recovery: spans of at most this share of the fan-in, probed on a few kernels.
_WIDEST_SPAN = 0.75
_PROBED = 2
_PROBE_ITERATIONS = 8
# Layers wider than this are looked at with two patches a direction first: mostly that shows a span too wide.
_FIRST_LOOK = Sampling(per_fan_in=2, least=0)
_WORTH_A_LOOK = 128


@dataclass(frozen=True)
class Recipe:
    """How to recover each layer.

    Attributes:
        method: `exact` (l1 on the span), `soft` (closed form) or `auto` (exact where a probe of a few kernels is
            certified, soft elsewhere; only certain hits are replaced where a strength of None is given) or `robust`
            (entries that do not fit the rest of their layer are filled in).
        strength: λ of the soft recovery; None leaves layers alone that exact recovery cannot certify.
        rounding: Relative rounding in the weights, below which a residual counts as zero.
        energy: Share of the patches' energy that `exact` keeps where the span is the whole space.
        sampling: How many patches to look at.
        repair: For `auto`: fill in, as `robust` does, the entries that do not fit where nothing can be certified.
        sparse: For both: whether the network as a whole shows sparse noise.
        renew: Estimate all BatchNorm statistics anew, as is done with sparse noise and after soft recovery.
        thin: Multiple of the strength for layers that saw fewer patches than directions: with little strength they
            would repeat these patches and nothing else.
        only: Kernels, by the name of their layer, that soft recovery may change; None for all.
    """

    method: str
    strength: float | None
    rounding: float = 1e-5
    energy: float = 0.99
    sampling: Sampling = field(default_factory=Sampling)
    repair: bool = False
    sparse: bool = False
    renew: bool = False
    thin: float = 1.0
    only: Mapping[str, tuple[int, ...]] | None = None

    def strength_on(self, moments: Moments | None) -> float | None:
        """λ of a layer.

        >>> Recipe("soft", 0.01, thin=10).strength_on(None)
        0.01
        """
        if self.strength is None or moments is None or not moments.dual:
            return self.strength
        return self.thin * self.strength

    @property
    def repairs(self) -> bool:
        """Whether layers are searched for entries that do not fit."""
        return self.repair or self.method == "robust"


@dataclass(frozen=True)
class LayerOutcome:
    """One layer after the walk passed it: all that an account of it needs.

    Attributes:
        site: The layer.
        method: What was done: `exact`, `soft`, `robust`, `statistics`, `filled` or `none`.
        suspect: Kernels as received, shape (groups, kernels, fan_in); BatchNorm: (1, 2, channels) mean and variance.
        anchor: Same shape.
        purified: Same shape.
        hits: Entries known to be contaminated, same shape.
        moments: None for BatchNorm.
        fits: One per group where exact recovery ran.
        truncated: Whether exact recovery had to cut the span off.
        repair: What robust recovery found, where it ran.
        anchored: Whether the anchor has this layer.
        seconds: Wall time.
        least: Of BatchNorm: variances that new ones are to be no smaller than, from `least_variances`.
    """

    site: Site
    method: str
    suspect: Tensor
    anchor: Tensor
    purified: Tensor
    hits: Tensor
    moments: Moments | None = None
    fits: tuple[ExactFit, ...] = ()
    truncated: bool = False
    repair: Repair | None = None
    anchored: bool = False
    seconds: float = 0.0
    least: Tensor | None = None


@dataclass(frozen=True)
class _Pair:
    """Both networks with the passes through them."""

    suspect: nn.Module
    purified: nn.Module
    theirs: Passes
    ours: Passes


def walk(
    suspect: nn.Module,
    purified: nn.Module,
    anchor: Mapping[str, Tensor],
    sites: tuple[Site, ...],
    batches: list[Tensor] | Lesson,
    recipe: Recipe,
) -> Iterator[LayerOutcome]:
    """Purify a network layer by layer, yielding each layer's outcome as it is done.

    Both networks are working copies in evaluation mode; `purified` is filled in step by step, and in `suspect`
    the certain hits of a layer are filled as the walk reaches it, so that its outputs stay usable targets.

    Args:
        suspect: Working copy of the network as received.
        purified: Another copy; holds the purified network when the walk is over.
        anchor: State dict of the anchor; layers it lacks count as unknown (zero).
        sites: From `spans.find_sites`.
        batches: Benign images, or a lesson.
        recipe: How to recover.

    Yields:
        One `LayerOutcome` a site, in forward order.
    """
    lesson = batches if isinstance(batches, Lesson) else Lesson.of(batches)
    softened, before = False, None
    with Passes(suspect, sites, lesson.meant) as theirs, Passes(purified, sites, lesson.shown) as ours:
        pair = _Pair(suspect, purified, theirs, ours)
        for site in sites:
            started = time.perf_counter()
            if site.geometry is None:
                renew = softened or recipe.sparse or recipe.renew
                replaced = before.hits if before is not None and before.repair is not None else None
                outcome = _batchnorm(pair, site, lesson.artificial, recipe, replaced, renew=renew)
            else:
                outcome = _layer(pair, anchor, site, recipe)
            # Exact recovery and filling restore what training made, its statistics with it; soft recovery does not.
            softened, before = softened or outcome.method == "soft", outcome
            yield replace(outcome, seconds=time.perf_counter() - started)


def _layer(pair: _Pair, anchor: Mapping[str, Tensor], site: Site, recipe: Recipe) -> LayerOutcome:
    module = pair.purified.get_submodule(site.name)
    received = read_kernels(module)
    origin = anchor_kernels(anchor, site.name, received)
    hits = hit_kernels(received, getattr(module, "bias", None) is not None)
    start = torch.zeros_like(received) if origin is None else origin
    kernels = torch.where(hits, start, received)
    networks = (
        pair.suspect,
        pair.purified,
    )  # both: what the layer makes comes back to it where it is used twice
    _write_to(networks, site, kernels)
    # Without soft recovery nothing is asked of the suspect, so it need not run.
    theirs = None if recipe.strength is None else pair.theirs
    moments = None if hits.any() else _too_wide(pair, site, kernels, recipe)
    if moments is not None:
        return LayerOutcome(
            site, "none", received, start, kernels, hits, moments, anchored=origin is not None
        )
    moments = measure_passes(theirs, pair.ours, site, kernels, recipe.sampling)
    if hits.any() and recipe.method != "robust":  # which fills them itself, from what it trusts
        kernels = fill_entries(kernels, hits, start, moments)
        _write_to(networks, site, kernels)
        moments = measure_passes(theirs, pair.ours, site, kernels, recipe.sampling)
    outcome = LayerOutcome(
        site,
        "filled" if hits.any() else "none",
        received,
        start,
        kernels,
        hits,
        moments,
        anchored=origin is not None,
    )
    if not torch.equal(
        kernels, start
    ):  # weights still equal to the anchor were never trained: nothing to undo
        outcome = _recover(outcome, recipe)
    write_kernels(module, outcome.purified)
    return outcome


def _too_wide(pair: _Pair, site: Site, kernels: Tensor, recipe: Recipe) -> Moments | None:
    """A first look at a layer that only exact recovery might change: its moments if its span is too wide for that."""
    assert site.geometry is not None
    only_exact = recipe.method == "auto" and recipe.strength is None and not recipe.repairs
    if not only_exact or site.geometry.fan_in <= _WORTH_A_LOOK:
        return None
    look = replace(_FIRST_LOOK, seed=recipe.sampling.seed)
    seen = measure_passes(None, pair.ours, site, kernels, look)
    every = recipe.sampling.wanted(site.geometry)
    wide = any(seen.surely_wider(group, _WIDEST_SPAN, every) for group in range(len(kernels)))
    return seen if wide else None


def _write_to(networks: tuple[nn.Module, ...], site: Site, kernels: Tensor) -> None:
    for network in networks:
        write_kernels(network.get_submodule(site.name), kernels)


def _recover(outcome: LayerOutcome, recipe: Recipe) -> LayerOutcome:
    assert outcome.moments is not None
    if recipe.method in ("exact", "auto"):
        groups = range(len(outcome.suspect))
        forced = recipe.method == "exact"
        if forced or not any(_hopeless(outcome.moments, group) for group in groups):
            spans = [span_of(outcome.moments, group) for group in groups]
            if forced or all(
                _probe(span, outcome, group, recipe.rounding) for group, span in enumerate(spans)
            ):
                return _exact(outcome, spans, recipe)
    if recipe.repairs:
        return _robust(outcome, outcome.moments, recipe)
    strength = recipe.strength_on(outcome.moments)
    if strength is None or (recipe.only is not None and outcome.site.name not in recipe.only):
        return outcome
    recovered = soft_recovery(outcome.moments, outcome.anchor, strength)
    if recipe.only is not None:
        rows = list(recipe.only[outcome.site.name])
        changed, recovered = recovered, outcome.purified.clone()
        recovered[:, rows] = changed[:, rows]
    return replace(outcome, method="soft", purified=recovered)


def _hopeless(moments: Moments, group: int) -> bool:
    return moments.fills_space(group) or moments.surely_wider(group, _WIDEST_SPAN)


def _probe(span: Span, outcome: LayerOutcome, group: int, rounding: float) -> bool:
    """Whether l1 on this span is worth while: certified, within a few iterations, on most of a few kernels.

    Where sparse noise can be undone the solver meets the solution in about four iterations; where it cannot it
    takes many and finds nothing, so that a short probe tells the two apart at little cost.
    """
    if span.rank > _WIDEST_SPAN * span.directions.shape[0]:
        return False
    every = max(1, outcome.purified.shape[1] // _PROBED)
    chosen, start = outcome.purified[group, ::every], outcome.anchor[group, ::every]
    fit = exact_recovery(span, chosen, start, rounding, patience=_PROBE_ITERATIONS)
    return bool(fit.certified.double().mean() > 0.5)


def _exact(outcome: LayerOutcome, spans: list[Span], recipe: Recipe) -> LayerOutcome:
    truncated = any(span.full for span in spans)
    if truncated:
        spans = [span.holding(recipe.energy) for span in spans]
    fits = tuple(
        exact_recovery(span, outcome.purified[group], outcome.anchor[group], recipe.rounding)
        for group, span in enumerate(spans)
    )
    if truncated:  # a certificate on a span that was cut off says nothing of the clean weights
        fits = tuple(replace(fit, certified=torch.zeros_like(fit.certified)) for fit in fits)
    purified = torch.stack([fit.kernels for fit in fits])
    certain = torch.stack([fit.hits & fit.certified[:, None] for fit in fits])
    return replace(
        outcome,
        method="exact",
        purified=purified,
        hits=outcome.hits | certain,
        fits=fits,
        truncated=truncated,
    )


def _robust(outcome: LayerOutcome, moments: Moments, recipe: Recipe) -> LayerOutcome:
    repair = repair_entries(outcome.suspect, outcome.anchor, moments, outcome.hits, sparse=recipe.sparse)
    method = "robust" if bool(repair.hits.any()) else "none"
    return replace(outcome, method=method, purified=repair.kernels, hits=repair.hits, repair=repair)


def _batchnorm(
    pair: _Pair,
    site: Site,
    artificial: frozenset[int],
    recipe: Recipe,
    replaced: Tensor | None,
    *,
    renew: bool,
) -> LayerOutcome:
    module = pair.purified.get_submodule(site.name)
    received = read_statistics(module)[None]
    hits = hit_statistics(*received[0])[None]
    outcome = LayerOutcome(site, "none", received, received, received, hits)
    if not (renew or hits.any() or recipe.repairs):
        return outcome
    fresh = torch.stack(statistics_of_passes(pair.ours, site, artificial))[None].to(received)
    least = least_variances(received[0], replaced)
    fresh[0, 1] = torch.maximum(fresh[0, 1], least)
    if recipe.repairs:
        hits = hits | unlike_measured(received[0], fresh[0])[None]
        if not (renew or hits.any()):
            return outcome
    outcome = replace(
        outcome,
        method="statistics",
        purified=fresh if renew else torch.where(hits, fresh, received),
        hits=hits,
        least=least,
    )
    write_statistics(module, outcome.purified[0])
    if hits.any():  # the suspect needs usable statistics too, or its outputs are no targets
        usable = torch.where(hits, outcome.purified, received)
        write_statistics(pair.suspect.get_submodule(site.name), usable[0])
    return outcome
