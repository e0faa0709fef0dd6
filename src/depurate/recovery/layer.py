"""One layer recovered from its moments: exact where certified, else robust or soft."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from depurate.recovery.exact import exact_recovery, with_odd_biases
from depurate.recovery.outcome import LayerOutcome
from depurate.recovery.recipe import Recipe
from depurate.recovery.robust import repair_entries
from depurate.recovery.soft import soft_recovery
from depurate.spans import Moments, Span, span_of

# When `auto` tries exact recovery: spans of at most this share of the fan-in, probed on a few kernels.
WIDEST_SPAN = 0.75
_PROBED = 2
_PROBE_ITERATIONS = 8


def recover_layer(outcome: LayerOutcome, recipe: Recipe, whole: Callable[[], Moments]) -> LayerOutcome:
    """Recover a convolution or dense layer from what the walk has measured of it.

    Args:
        outcome: The layer so far: its moments, its kernels with certain hits filled in, its anchor.
        recipe: How to recover; `auto` tries exact recovery where a probe of a few kernels is certified.
        whole: Measures every patch, for exact recovery.

    Returns:
        The outcome with the method used, its kernels, and what that found; as it was where nothing applies.
    """
    assert outcome.moments is not None
    exact = _tried_exactly(outcome, outcome.moments, recipe, whole)
    if exact is not None:
        return exact
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


def _tried_exactly(
    outcome: LayerOutcome, moments: Moments, recipe: Recipe, whole: Callable[[], Moments]
) -> LayerOutcome | None:
    """The layer recovered exactly, where that was asked for or a probe says that it is worth while."""
    groups, forced = range(len(outcome.suspect)), recipe.method == "exact"
    if not forced and (recipe.method != "auto" or any(_hopeless(moments, group) for group in groups)):
        return None

    def promising(spans: list[Span]) -> bool:
        return forced or all(_probe(span, outcome, g, recipe) for g, span in enumerate(spans))

    spans = [span_of(moments, group) for group in groups]
    if not promising(spans):
        return None
    if any(not span.full for span in spans):
        moments = whole()
        spans = [span_of(moments, group) for group in groups]
        if not promising(spans):
            return None
    return _exact(replace(outcome, moments=moments), spans, recipe)


def _hopeless(moments: Moments, group: int) -> bool:
    return moments.fills_space(group) or moments.surely_wider(group, WIDEST_SPAN)


def _probe(span: Span, outcome: LayerOutcome, group: int, recipe: Recipe) -> bool:
    """Whether l1 on this span is worth while: certified, within a few iterations, on most of a few kernels.

    Where sparse noise can be undone the solver meets the solution in about four iterations; where it cannot it
    takes many and finds nothing, so that a short probe tells the two apart at little cost.
    """
    if span.rank > WIDEST_SPAN * span.directions.shape[0]:
        return False
    every = max(1, outcome.purified.shape[1] // _PROBED)
    chosen, start = outcome.purified[group, ::every], outcome.anchor[group, ::every]
    rounding, lost = recipe.rounding_on(outcome.site.name), outcome.hits[group, ::every]
    fit = exact_recovery(span, chosen, start, rounding, lost=lost, patience=_PROBE_ITERATIONS)
    return bool(fit.certified.double().mean() > 0.5)


def _exact(outcome: LayerOutcome, spans: list[Span], recipe: Recipe) -> LayerOutcome:
    truncated = any(span.full for span in spans)
    if truncated:
        spans = [span.holding(recipe.energy) for span in spans]
    rounding = recipe.rounding_on(outcome.site.name)
    fits = tuple(
        exact_recovery(
            span,
            outcome.purified[group],
            outcome.anchor[group],
            rounding,
            lost=outcome.hits[group],
        )
        for group, span in enumerate(spans)
    )
    if outcome.site.geometry is not None and outcome.site.geometry.bias:
        fits = with_odd_biases(fits, outcome.purified, outcome.hits)
    # The patches of its later calls were made with the very weights that are in doubt.
    shared = outcome.site.calls > 1 and any(bool(fit.hits.any()) for fit in fits)
    outcome = replace(outcome, doubted=outcome.doubted or shared)
    # A certificate on a span that was cut off, or of what estimates made, says nothing of the clean weights.
    if truncated or outcome.doubted:
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
    repair = repair_entries(
        outcome.suspect,
        outcome.anchor,
        moments,
        outcome.hits,
        sparse=recipe.sparse,
        damaged=recipe.damaged,
    )
    method = "robust" if bool(repair.hits.any()) else "none"
    return replace(outcome, method=method, purified=repair.kernels, hits=repair.hits, repair=repair)
