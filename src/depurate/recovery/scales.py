"""Scales and shifts of normalisations that do not fit the others: found by their numbers alone, and filled in."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from depurate.recovery.anchors import anchor_kernels
from depurate.recovery.bursts import capped
from depurate.recovery.entries import stuck_entries
from depurate.recovery.mixture import HitModel, Prior, fit_hits
from depurate.recovery.records import Guessed
from depurate.recovery.robust import Repair
from depurate.spans import key_of, read_kernels

_FEWEST = 8
_SURE = 0.5
# Vectors that vary more than the others of their kind by this many deviations, of their logarithms, may be lost.
_DOUBTED = 2.0
# A vector of entries that are nearly equal says little of how far others may be: this much of the usual at least.
_LEAST = 0.2
# Where none was trained: of the size that they have.
_LEAST_OF_SIZE = 0.02


Vector = tuple[str, int]
"""Name of a normalisation, and 0 for its scales, 1 for its shifts."""
PARTS = ("weight", "bias")
"""Their names in it."""


def repair_scales(
    model: nn.Module, anchor: Mapping[str, Tensor], lost: Collection[Vector] = ()
) -> dict[str, Repair]:
    """Find hit scales and shifts of a network's normalisations, and what they should be; nothing is changed.

    Each vector of what was added to the anchor is centred by its median m and measured by its median deviation s. All
    of them together show the mixture of good and hit entries (`fit_hits` on (v − m)/s); what is more likely hit than
    not takes m, as does what is stuck (`stuck_entries`). Vectors that are lost as a whole take the median of what the
    others of their kind have for m. For networks that are known to hold sparse noise: healthy vectors have outliers,
    too.

    Args:
        model: The network.
        anchor: State dict, may be empty.
        lost: Vectors known to be lost as a whole.

    Returns:
        By the name of the normalisation; `kernels` has shape (1, channels, 2), scales and shifts.

    >>> net = nn.Sequential(nn.BatchNorm1d(40)).requires_grad_(False)
    >>> _ = net[0].weight.copy_(1 + 0.1 * torch.randn(40, generator=torch.Generator().manual_seed(0)))
    >>> net[0].weight[7] = -9
    >>> repair_scales(net, {})["0"].hits.nonzero().tolist()
    [[0, 7, 0]]

    Source: the mixture of Dempster, Laird & Rubin 1977; medians as in Huber 1981.
    """
    seen = _all_vectors(model, anchor, lost)
    if not seen:
        return {}
    usual = torch.cat([vectors.deviation.flatten() for vectors in seen.values()])
    trained = bool((usual > 0).any())
    if trained:
        least = _LEAST * float(usual[usual > 0].median())
    else:  # all as they started, but for what was hit
        least = _LEAST_OF_SIZE * max(float(vectors.likely.abs().max()) for vectors in seen.values())
    # Vectors that were never trained are all alike, and would let the rest seem far apart.
    told = [~vectors.lost & ((vectors.deviation[0, 0] > 0) | (not trained)) for vectors in seen.values()]
    pairs = zip(seen.values(), told, strict=True)
    apart = torch.cat([vectors.apart(least)[..., which].flatten() for vectors, which in pairs])
    if least == 0 or not bool(apart.any()):
        return {}
    mixture = fit_hits(apart, torch.ones_like(apart), Prior.of(sparse=True))
    stuck = _stuck(seen)
    return {name: vectors.repair(mixture, least, stuck[name]) for name, vectors in seen.items()}


def doubted_vectors(model: nn.Module, anchor: Mapping[str, Tensor]) -> dict[Vector, Tensor]:
    """Find vectors that may be lost as a whole, as a page of memory takes them: those that vary far more than others.

    log s > med log s + 2 max(MAD, 0.15) (`capped`), s the deviations of scales, or of shifts, of all normalisations.
    The first shifts of healthy networks do, too, so that something else has to decide.

    Args:
        model: The network.
        anchor: State dict, may be empty.

    Returns:
        What each would be filled with, shape (channels,), in the network's order; none where there are fewer than
        eight to compare.

    Source: the median absolute deviation, Huber 1981.
    """
    seen = _all_vectors(model, anchor)
    found: dict[Vector, Tensor] = {}
    for column in (0, 1):
        varied = _varied(seen, column)
        deviations = torch.tensor([*varied.values()], dtype=torch.float64)
        marks = (deviations > capped(deviations, _DOUBTED)).tolist()
        far = {(name, column) for name, is_far in zip(varied, marks, strict=True) if is_far}
        without = _with_lost(seen, far)
        found |= {(name, column): without[name].likely[0, :, column] for name, _ in far}
    every = ((name, column) for name in seen for column in (0, 1))
    return {vector: found[vector] for vector in every if vector in found}


def replaced_scales(repairs: Mapping[str, Repair]) -> tuple[Guessed, ...]:
    """The vectors of scales and shifts in which entries were replaced, by name.

    >>> one = torch.tensor([[[True, False]]])
    >>> replaced_scales({"bn": Repair(one, one, one, 0.0, None, 1.0, 0, one, one, one)})
    (Guessed(name='bn.weight', hit=1, entries=1),)
    """
    parts = (
        Guessed(key_of(name, part), int(hits.sum()), len(hits))
        for name, repair in repairs.items()
        for part, hits in zip(PARTS, repair.hits[0].unbind(1), strict=False)
    )
    return tuple(part for part in parts if part.hit)


def _normalisations(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Those with one scale a channel, and enough of them to tell what is usual."""
    for name, module in model.named_modules():
        scales = getattr(module, "weight", None) if "norm" in type(module).__name__.lower() else None
        if isinstance(scales, nn.Parameter) and scales.ndim == 1 and len(scales) >= _FEWEST:
            yield name, module


def _all_vectors(
    model: nn.Module, anchor: Mapping[str, Tensor], lost: Collection[Vector] = ()
) -> dict[str, _Vectors]:
    seen = {name: _Vectors.of(name, module, anchor) for name, module in _normalisations(model)}
    return _with_lost(seen, lost)


def _varied(seen: Mapping[str, _Vectors], column: int) -> dict[str, float]:
    """Deviations of scales, or of shifts, that were trained."""
    having = {name: vectors for name, vectors in seen.items() if vectors.received.shape[2] > column}
    deviations = {name: float(vectors.deviation[0, 0, column]) for name, vectors in having.items()}
    return {name: deviation for name, deviation in deviations.items() if deviation > 0}


def _with_lost(seen: Mapping[str, _Vectors], lost: Collection[Vector]) -> dict[str, _Vectors]:
    """Let vectors that are lost expect what the others of their kind have."""
    filled = dict(seen)
    for name, column in lost:
        others = [seen[other] for other in _varied(seen, column) if (other, column) not in lost]
        if others:
            middle, deviation = (
                torch.stack([values[0, 0, column] for values in some]).median()
                for some in ([one.middle for one in others], [one.deviation for one in others])
            )
            filled[name] = filled[name].without(column, middle, deviation)
    return filled


def _stuck(seen: dict[str, _Vectors]) -> dict[str, Tensor]:
    """Entries of all normalisations that hold one number, by name."""
    masks: dict[str, Tensor] = {}
    for width in (1, 2):
        alike = {
            name: vectors.received[0] for name, vectors in seen.items() if vectors.received.shape[2] == width
        }
        if alike:
            parts = torch.split(
                stuck_entries(torch.cat([*alike.values()])), [len(values) for values in alike.values()]
            )
            masks |= {name: part[None] for name, part in zip(alike, parts, strict=True)}
    return masks


@dataclass(frozen=True, eq=False)
class _Vectors:
    """Scales and shifts of one normalisation, shape (1, channels, 2), with their anchor.

    `middle` and `deviation`, shape (1, 1, 2), are those of what was added to the anchor, or those of other vectors for
    what is `lost`, shape (2,).
    """

    received: Tensor
    anchor: Tensor
    middle: Tensor
    deviation: Tensor
    lost: Tensor

    @classmethod
    def of(cls, name: str, module: nn.Module, anchor: Mapping[str, Tensor]) -> _Vectors:
        received = read_kernels(module)
        start = anchor_kernels(anchor, name, received)
        start = torch.zeros_like(received) if start is None else start
        added = received - start
        middle = added.median(1, keepdim=True).values
        deviation = (added - middle).abs().median(1, keepdim=True).values / 0.6745
        return cls(received, start, middle, deviation, torch.zeros_like(middle[0, 0], dtype=torch.bool))

    @property
    def likely(self) -> Tensor:
        """The anchor and what was added to most, m."""
        return self.anchor + self.middle

    def without(self, column: int, middle: Tensor, deviation: Tensor) -> _Vectors:
        """These with one vector lost: what is likely there is what others have."""
        at = torch.arange(len(self.lost), device=self.lost.device) == column
        return replace(
            self,
            middle=torch.where(at, middle, self.middle),
            deviation=torch.where(at, deviation, self.deviation),
            lost=self.lost | at,
        )

    def apart(self, least: float) -> Tensor:
        """(v − m)/s."""
        return (self.received - self.likely) / self.deviation.clamp_min(least)

    def repair(self, mixture: HitModel, least: float, stuck: Tensor) -> Repair:
        apart = self.apart(least)
        probability = torch.where(stuck | self.lost, 1.0, mixture.posterior(apart, torch.ones_like(apart)))
        hits = probability > _SURE
        return Repair(
            torch.where(hits, self.likely, self.received),
            hits,
            probability,
            mixture.share,
            None,
            float(probability[hits].mean()) if bool(hits.any()) else 1.0,
            0,
            (mixture.core * self.deviation.clamp_min(least)).expand_as(hits),
            self.likely,
            self.received,
        )
