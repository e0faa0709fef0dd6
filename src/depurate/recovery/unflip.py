"""Single bit flips taken back: of all words one bit away, the one that fits."""

from __future__ import annotations

import torch
from torch import Tensor

_WORDS = {
    torch.float32: (torch.int32, 32),
    torch.float64: (torch.int64, 64),
    torch.float16: (torch.int16, 16),
}
_NEAR = 5.0
_LIKELY = 0.9
_VANISHED = 1e-4
# Good entries of a layer that may be taken for vanished by chance, for each one known to be hit, and in networks in
# which none is: of 250 trained layers nine had one by the first measure and two by the second.
_BY_CHANCE, _UNDAMAGED = 0.1, 1e-3
_OUTLYING = 15.0


def unflip(values: Tensor, predicted: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """Look for the one bit whose flip explains each value.

    The words c that differ from a value in one bit are weighed by what a clean word is likely to be, N(c; prediction,
    scale²) times the distance to the next word, which is as |c|. An entry is restored when one word within five
    scales has nine tenths of the weight. That is evidence, no proof: the noise may have been something else.

    Args:
        values: Entries taken for hit, shape (n,), float32, float64 or float16.
        predicted: What they should be near, same shape.
        scales: How near, same shape.

    Returns:
        The entries, restored where it was possible, and the mask of those.

    >>> broken = torch.tensor([0.02, 0.02]).view(torch.int32) ^ torch.tensor([1 << 30, 0], dtype=torch.int32)
    >>> value, done = unflip(broken.view(torch.float32)[:1], torch.zeros(1), torch.full((1,), 0.1))
    >>> value.tolist() == torch.tensor([0.02]).tolist(), done.tolist()
    (True, [True])
    """
    if values.dtype not in _WORDS or values.numel() == 0:
        return values, torch.zeros_like(values, dtype=torch.bool)
    candidates = _one_bit_away(values)
    words = candidates.double()
    apart = (words - predicted.double()[:, None]) / scales.double()[:, None]
    weight = torch.where(
        apart.abs() <= _NEAR, -0.5 * apart.square() + words.abs().clamp_min(1e-300).log(), -torch.inf
    )
    best = weight.nan_to_num(-torch.inf).max(1)
    share = torch.softmax(weight.nan_to_num(-torch.inf), 1).amax(1)
    done = best.values.isfinite() & (share > _LIKELY)
    chosen = candidates[torch.arange(len(values), device=values.device), best.indices]
    return torch.where(done, chosen, values), done


def vanished(values: Tensor, known: Tensor, *, damaged: bool = True) -> Tensor:
    """Mark entries so near to zero that chance hardly explains them: flips of high exponent bits that were set.

    0 < |w| < median|w| · min(10⁻⁴, 0.1 (k + 1) / n) with k the hits known of n: good entries are that small about
    a tenth as often as entries are known to be hit. Where nothing in the network is, 10⁻³ takes the place of
    0.1 (k + 1). Nothing is marked where many are: training left them so.

    Args:
        values: Weights of one layer, any shape.
        known: Entries hit beyond doubt, same shape, bool.
        damaged: Whether any entry of the whole network is hit beyond doubt.

    Returns:
        Boolean mask of the same shape.

    >>> vanished(torch.tensor([0.1, -0.2, 1e-12, 0.3]), torch.zeros(4, dtype=torch.bool)).tolist()
    [False, False, True, False]
    """
    sizes = values.abs()
    usable = ~known & (sizes > 0) & values.isfinite()
    if not bool(usable.any()):
        return torch.zeros_like(known)
    count = int(known.sum())
    chance = _BY_CHANCE * (count + 1) if damaged else _UNDAMAGED
    limit = sizes[usable].median() * min(_VANISHED, chance / values.numel())
    found = usable & (sizes < limit)
    return found if int(found.sum()) <= 10 * (count + 1) else torch.zeros_like(known)


def _one_bit_away(values: Tensor) -> Tensor:
    """All words that differ from each value in one bit, shape (n, bits)."""
    kind, width = _WORDS[values.dtype]
    bits = torch.ones(width, dtype=torch.int64, device=values.device) << torch.arange(
        width, device=values.device
    )
    powers = bits.view(kind).view(width, -1)[:, 0]
    return (values.contiguous().view(kind)[:, None] ^ powers).view(values.dtype)


def unflip_vector(values: Tensor, rate: float = 0.0) -> tuple[Tensor, Tensor]:
    """Find the entries of a normalisation's scale or shift that one flipped bit explains, and flip it back.

    Entries count as hit when they lie fifteen deviations from the median (deviations by the median as well), have
    vanished, or are more likely flipped than not: ρ Σ_c t(c)|c| > t(v)|v| over the words c one bit away from the
    value v, t being Student's law with six degrees of freedom around the median. Only those that one bit explains are
    changed. Trained scales and shifts have tails of their own: six deviations alone changed good ones.

    Args:
        values: Shape (channels,).
        rate: ρ, the probability of a flip for each bit, where it is known.

    Returns:
        A new vector, and the mask of entries restored.

    >>> vector = torch.full((20,), 0.5) + 0.01 * torch.arange(20)
    >>> hit = vector.clone()
    >>> hit[3] /= 2.0**32
    >>> restored, mask = unflip_vector(hit)
    >>> torch.equal(restored, vector), mask.nonzero().tolist()
    (True, [[3]])
    """
    finite = values.isfinite()
    if int(finite.sum()) < 8:
        return values.clone(), torch.zeros_like(finite)
    middle = values[finite].median()
    spread = (values[finite] - middle).abs().median() / 0.6745
    spread = torch.maximum(spread, 0.02 * values[finite].abs().median())
    if spread == 0:
        return values.clone(), torch.zeros_like(finite)
    suspected = ~finite | ((values - middle).abs() > _OUTLYING * spread) | vanished(values, ~finite)
    if rate > 0 and values.dtype in _WORDS:
        suspected |= _likely_flipped(values, middle, spread, rate)
    fixed, done = unflip(
        values[suspected], middle.expand(int(suspected.sum())), spread.expand(int(suspected.sum()))
    )
    mask = torch.zeros_like(finite)
    mask[suspected] = done
    restored = values.clone()
    restored[suspected] = fixed
    return restored, mask


def _likely_flipped(values: Tensor, middle: Tensor, spread: Tensor, rate: float) -> Tensor:
    def mass(words: Tensor) -> Tensor:  # of a word, whose distance to the next is as its size
        apart = (words.double() - middle) / spread
        return (words.double().abs() * (1 + apart.square() / 6) ** -3.5).nan_to_num(0.0)

    return rate * mass(_one_bit_away(values)).sum(1) > mass(values)
