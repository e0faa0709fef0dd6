"""The walk: layers purified in forward order, each on patches from the purified layers before it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

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
from depurate.recovery.layer import WIDEST_SPAN, recover_layer
from depurate.recovery.lesson import Lesson
from depurate.recovery.outcome import LayerOutcome
from depurate.recovery.recipe import Recipe
from depurate.spans import (
    Moments,
    Passes,
    Sampling,
    Site,
    measure_passes,
    measure_whole,
    read_kernels,
    write_kernels,
)

# Layers wider than this are looked at with two patches a direction first: mostly that shows a span too wide.
_FIRST_LOOK = Sampling(per_fan_in=2, least=0)
_WORTH_A_LOOK = 128


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
    softened, doubted, before = False, False, None
    with Passes(suspect, sites, lesson.meant) as theirs, Passes(purified, sites, lesson.shown) as ours:
        pair = _Pair(suspect, purified, theirs, ours)
        for site in sites:
            started = time.perf_counter()
            if site.geometry is None:
                renew = softened or recipe.sparse or recipe.renew
                replaced = before.hits if before is not None and before.repair is not None else None
                outcome = _batchnorm(pair, site, lesson.artificial, recipe, replaced, renew=renew)
            else:
                outcome = _layer(pair, anchor, site, recipe, doubted=doubted or site.name in recipe.guessed)
            # Exact recovery and filling restore what training made, its statistics with it; soft recovery does not.
            softened, before = softened or outcome.method == "soft", outcome
            doubted = doubted or outcome.estimated or (recipe.sparse and _untold(outcome))
            yield replace(outcome, seconds=time.perf_counter() - started)


def _untold(outcome: LayerOutcome) -> bool:
    """Whether nothing says that a layer which was left alone is clean, where the network is known to hold noise."""
    told = outcome.anchored and torch.equal(outcome.suspect, outcome.anchor)
    return outcome.method == "none" and outcome.site.geometry is not None and not told


def _layer(
    pair: _Pair, anchor: Mapping[str, Tensor], site: Site, recipe: Recipe, *, doubted: bool
) -> LayerOutcome:
    module = pair.purified.get_submodule(site.name)
    received = read_kernels(module)
    origin = anchor_kernels(anchor, site.name, received)
    hits = hit_kernels(received, getattr(module, "bias", None) is not None)
    start = torch.zeros_like(received) if origin is None else origin
    kernels = torch.where(hits, start, received)
    # Both: what the layer makes comes back to it where it is used twice.
    networks = (pair.suspect, pair.purified)
    _write_to(networks, site, kernels)
    method, anchored = "filled" if hits.any() else "none", origin is not None
    outcome = LayerOutcome(site, method, received, start, kernels, hits, doubted=doubted, anchored=anchored)
    if not hits.any():
        if recipe.only_fills:
            return outcome
        seen = _too_wide(pair, site, kernels, recipe)
        if seen is not None:
            return replace(outcome, moments=seen)
    # Without soft recovery nothing is asked of the suspect, so it need not run.
    theirs = None if recipe.strength is None else pair.theirs
    moments = measure_passes(theirs, pair.ours, site, kernels, recipe.sampling)
    if hits.any() and recipe.method != "robust":  # which fills them itself, from what it trusts
        kernels = fill_entries(kernels, hits, start, moments)
        _write_to(networks, site, kernels)
        moments = measure_passes(theirs, pair.ours, site, kernels, recipe.sampling)
    outcome = replace(outcome, purified=kernels, moments=moments)
    # Weights still equal to the anchor were never trained: nothing to undo.
    if not torch.equal(kernels, start):
        outcome = recover_layer(outcome, recipe, lambda: measure_whole(pair.ours, site))
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
    wide = any(seen.surely_wider(group, WIDEST_SPAN, every) for group in range(len(kernels)))
    return seen if wide else None


def _write_to(networks: tuple[nn.Module, ...], site: Site, kernels: Tensor) -> None:
    for network in networks:
        write_kernels(network.get_submodule(site.name), kernels)


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
