"""Robust recovery: entries that do not fit the rest of their layer are found and filled in, the others stay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from depurate.recovery.anchors import grown_anchor
from depurate.recovery.bursts import burst_entries
from depurate.recovery.entries import stuck_entries
from depurate.recovery.kriging import FIELDS, Field, Ground, predict_entries, predict_hits
from depurate.recovery.mixture import HitModel, Prior, fit_hits
from depurate.recovery.sizes import NEXT_TO_NOTHING, fine_scales, harmless_size, rough_scales
from depurate.recovery.unflip import unflip, vanished
from depurate.spans import Moments

_ROUNDS, _GLANCE = 8, 1
_SETTLED = 3e-4
_SURE = 0.5
# Where updates have wider tails than the mixture allows it is too sure of what it calls hit.
_SURE_OF_WIDE = 0.8
# Where nothing speaks of sparse noise but this entry: more sure than not, and this many scales off.
_SURE_ALONE = 0.9
_FAR = 6.0
_SUSPECTED = 0.3
# Of entries of a burst: so sure that the network's answers are not asked about each.
_OF_BURST = 0.9995
_LOST = 0.5


@dataclass(frozen=True, eq=False)
class Repair:
    """What was found in a layer and put in its place.

    Attributes:
        kernels: Shape of the kernels given; equal to them bit for bit outside `hits`.
        hits: Entries taken for contaminated, same shape, bool.
        probability: Of being hit, same shape.
        share: ε, the estimated share of entries hit, also of those that cannot be told from good ones.
        noise: Estimated scale of the noise, in units of the weights; None where nothing was found.
        precision: Expected share of truly hit entries among `hits`, by the model itself.
        unflipped: How many hits were explained by one bit, and restored.
        spread: How far the truth is expected from `likely`, same shape; zero where one bit explained it.
        likely: What an entry is filled with if it is hit, same shape.
        received: Same shape.
    """

    kernels: Tensor
    hits: Tensor
    probability: Tensor
    share: float
    noise: float | None
    precision: float
    unflipped: int
    spread: Tensor
    likely: Tensor
    received: Tensor


def repair_entries(
    kernels: Tensor,
    anchor: Tensor,
    moments: Moments,
    certain: Tensor,
    *,
    sparse: bool = True,
    damaged: bool = True,
) -> Repair:
    """Find the hit entries of a layer and fill them with what the good ones predict.

    Alternates three estimates until the hits settle: predictions of every entry (`predict_entries`), the scale of
    what they leave (rows times columns), and the mixture of good and hit residuals (`fit_hits`); the covariance is
    chosen by good entries that are held back. Nothing but the hits changes.

    Args:
        kernels: Shape (groups, kernels, fan_in).
        anchor: Same shape; zero where unknown. Taken as it is, multiplied by what decay and growth made of it, or left
            out: whichever the layer is predicted best from.
        moments: Of the layer's clean patches.
        certain: Entries hit beyond doubt, same shape, bool; their values are used for unflipping only.
        sparse: Whether the network as a whole shows sparse noise. If not, only what stands out by far counts.
        damaged: Whether any entry of the network is hit beyond doubt, so that others may have vanished.

    Returns:
        The repaired kernels and the evidence.

    >>> x = torch.randn(400, 12, generator=torch.Generator().manual_seed(0)) * torch.linspace(3, 0.3, 12)
    >>> clean = torch.randn(1, 40, 400, generator=torch.Generator().manual_seed(1)) @ x / 400
    >>> hit = clean.clone()
    >>> hit[0, 3, 1] = 9.0
    >>> seen = Moments(400, (x.mT @ x)[None].double() / 400, None, x[None], None)
    >>> nothing = torch.zeros_like(clean, dtype=torch.bool)
    >>> repair_entries(hit, torch.zeros_like(clean), seen, nothing, sparse=False).hits.nonzero().tolist()
    [[0, 3, 1]]
    """
    shape = kernels.shape
    received = kernels.reshape(-1, shape[2])
    known = (certain | ~kernels.isfinite()).reshape(-1, shape[2])
    known = known | vanished(received, known, damaged=damaged)
    stuck = stuck_entries(received) if sparse else torch.zeros_like(known)
    known = known | stuck
    start = anchor.reshape(-1, shape[2])
    filled = torch.where(known, start, received)
    harmless = harmless_size(filled.float())
    if harmless == 0:  # nothing but zeros and the anchor to learn from
        return Repair(
            filled.reshape(shape),
            known.reshape(shape),
            known.double().reshape(shape),
            0.0,
            None,
            1.0,
            0,
            torch.zeros(shape),
            filled.reshape(shape),
            kernels,
        )
    search = _nearest(_Search(start, received, known, Ground.of(moments), harmless, sparse))
    start, found = search.start, search.run()
    predicted = start + found.predicted.to(start)
    restored, single = unflip(received[found.hits], predicted[found.hits], found.scales[found.hits])
    # Among many hits of other kinds, or stuck ones, some are one bit away from a fitting word by chance.
    if sparse:
        single &= (known & ~stuck)[found.hits]
    likely, spread = predicted.clone(), found.scales.clone()
    likely[found.hits] = torch.where(single, restored, predicted[found.hits])
    spread[found.hits] = torch.where(single, 0.0, found.scales[found.hits])
    probability = torch.where(known, 1.0, found.probability)
    count = int(found.hits.sum())
    return Repair(
        torch.where(found.hits, likely, received).reshape(shape),
        found.hits.reshape(shape),
        probability.reshape(shape),
        max(found.model.share if count else 0.0, float(known.double().mean())),
        found.model.noise if count > int(known.sum()) else None,
        float(probability[found.hits].mean()) if count else 1.0,
        int(single.sum()),
        spread.reshape(shape),
        likely.reshape(shape),
        kernels,
    )


@dataclass(frozen=True)
class _Found:
    hits: Tensor
    probability: Tensor
    predicted: Tensor
    scales: Tensor
    model: HitModel


def _nearest(search: _Search) -> _Search:
    """Search from what predicts the weights best: the anchor, what decay and growth made of it, or nothing.

    Of weights trained for long an anchor tells little, and what it adds to them is to be predicted, too.
    """
    start = search.start
    if not bool(start.any()):
        return search
    others = grown_anchor(search.received, start, search.known), torch.zeros_like(start)
    return min((search, *(replace(search, start=other) for other in others)), key=_Search.glance)


@dataclass(frozen=True)
class _Search:
    """One layer's alternation."""

    start: Tensor
    received: Tensor
    known: Tensor
    ground: Ground
    harmless: float
    sparse: bool

    @cached_property
    def update(self) -> Tensor:
        """What was added to the start; zero where an entry is hit for sure."""
        return torch.where(self.known, self.start, self.received).float() - self.start.float()

    def glance(self) -> float:
        """Median of what is left of the entries after a first prediction."""
        return float((self.update - self.run(_GLANCE).predicted)[~self.known].abs().median())

    def run(self, rounds: int = _ROUNDS) -> _Found:
        prior = Prior.of(sparse=self.sparse)
        scales = rough_scales(self.update, self.known, self.harmless, bursts=self.sparse)
        # What is next to nothing (pruned, decayed, never reached by an update) does not tell how large others are.
        told = ~self.known & (self.update.abs() > NEXT_TO_NOTHING * self.harmless)
        model = fit_hits(self.update[told], scales[told], prior)
        hits = self.known | (model.posterior(self.update, scales) > _SUSPECTED)
        predicted, field = torch.zeros_like(self.update), FIELDS[0]
        probability = hits.float()
        for turn in range(rounds):
            # What was first predicted of kernels that are lost altogether would hardly fade in so few passes.
            lost = hits.double().mean(1, keepdim=True) > _LOST
            data = torch.where(hits, torch.where(lost, 0.0, predicted), self.update)
            size = self._sizes(data, hits)
            if turn in (0, 2):
                field = self._best_field(data / size, hits, turn)
            predicted = size * predict_entries(data / size, hits, self.ground, field, 12 if turn == 0 else 6)
            residuals = self.update - predicted
            scales = fine_scales(residuals, hits | ~told, self.harmless, bursts=self.sparse)
            model = fit_hits(residuals[told], scales[told], prior)
            probability = model.posterior(residuals, scales)
            if self.sparse:
                bursts = burst_entries(probability, model.share)
                probability = torch.where(bursts, probability.clamp_min(_OF_BURST), probability)
            before, hits = hits, self.known | self._hit(probability, residuals.abs() / scales, model, prior)
            if turn > 2 and float((before != hits).double().mean()) < _SETTLED:
                break
        return _Found(hits, probability, predicted, model.core * scales, model)

    def _hit(self, probability: Tensor, apart: Tensor, model: HitModel, prior: Prior) -> Tensor:
        if not self.sparse:
            return (probability > _SURE_ALONE) & (apart > _FAR * model.core)
        wide = bool(self.start.any()) and model.heavy >= 0.99 * prior.heavy
        return probability > (_SURE_OF_WIDE if wide else _SURE)

    def _sizes(self, data: Tensor, hits: Tensor) -> Tensor:
        good = ~hits
        power = (data.square() * good).sum(1, keepdim=True) / good.sum(1, keepdim=True).clamp_min(1)
        return power.sqrt().clamp_min(self.harmless)

    def _best_field(self, data: Tensor, hits: Tensor, seed: int) -> Field:
        """The covariance that best predicts a tenth of the good entries from all others."""
        drawn = torch.rand(data.shape, generator=torch.Generator().manual_seed(seed)).to(data.device)
        held = ~hits & (drawn < 0.1)
        if not bool(held.any()):
            return FIELDS[0]
        rows = torch.arange(len(data), device=data.device)[:: max(1, len(data) // 64)]
        shown = torch.where(held, 0.0, data)[rows]

        def error(field: Field) -> float:
            guess = predict_hits(shown, (hits | held)[rows], self.ground, field, 9)
            return float((data[rows] - guess)[held[rows]].square().clamp_max(9).mean())

        return min(FIELDS, key=error)
