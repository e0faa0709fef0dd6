"""Good entries and hit ones told apart by their residuals: a mixture whose every part is estimated."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SAMPLE = 100_000
_STEPS = 40
# Residuals beyond this are all alike, and their squares stay finite.
_HUGE = 1e12


@dataclass(frozen=True)
class Prior:
    """What is believed of a layer before its residuals are seen.

    Attributes:
        heavy: Largest share of good entries in the wide part of their mixture.
        width: How many times wider that part may be.
        most: Largest share of entries that may be hit.

    >>> Prior.of(sparse=False).most < Prior.of(sparse=True).most
    True
    """

    heavy: float
    width: float
    most: float

    @classmethod
    def of(cls, *, sparse: bool) -> Prior:
        """Where the whole network speaks of sparse noise, tails are noise; where it does not, they are weights."""
        return cls(0.05, 2.0, 0.6) if sparse else cls(0.25, 3.0, 0.02)


@dataclass(frozen=True)
class HitModel:
    """Residuals r of an entry of scale s: good (1−q)N(0, a²s²) + qN(0, b²s²), hit N(0, a²s² + τ²).

    Attributes:
        share: ε, the estimated share of entries hit.
        noise: τ, the estimated scale of the noise.
        core: a.
        wide: b.
        heavy: q.
    """

    share: float
    noise: float
    core: float
    wide: float
    heavy: float

    def posterior(self, residuals: Tensor, scales: Tensor) -> Tensor:
        """Probability that each entry is hit, given its residual.

        >>> model = HitModel(share=0.1, noise=10.0, core=1.0, wide=1.5, heavy=0.1)
        >>> [round(p, 2) for p in model.posterior(torch.tensor([0.0, 20.0]), torch.ones(2)).tolist()]
        [0.01, 1.0]
        """
        parts = self._parts(residuals.abs().clamp_max(_HUGE).square(), scales.square())
        return torch.softmax(torch.stack([torch.logaddexp(parts[0], parts[1]), parts[2]]), 0)[1]

    def _parts(self, squares: Tensor, scales: Tensor) -> Tensor:
        heavy, share = torch.tensor([self.heavy, self.share], dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        return torch.stack(
            [
                _normal(squares, self.core**2 * scales) + float(((1 - share) * (1 - heavy)).log()),
                _normal(squares, self.wide**2 * scales) + float(((1 - share) * heavy).log()),
                _normal(squares, self.core**2 * scales + self.noise**2) + float(share.log()),
            ]
        )


def fit_hits(residuals: Tensor, scales: Tensor, prior: Prior) -> HitModel:
    """Estimate the mixture by expectation maximisation, from a start that no share of hits under a half upsets.

    Args:
        residuals: What a prediction leaves of each entry, any shape.
        scales: How much of it is expected of good entries, same shape, up to one factor that is estimated.
        prior: Bounds.

    Returns:
        The mixture.

    >>> noise = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    >>> noise[:1000] *= 20
    >>> model = fit_hits(noise, torch.ones(4000), Prior.of(sparse=True))
    >>> 0.2 < model.share < 0.3, 15 < model.noise < 25
    (True, True)

    Source: Dempster, Laird & Rubin 1977.
    """
    r, s = residuals.flatten(), scales.flatten()
    if r.numel() > _SAMPLE:
        chosen = torch.randperm(r.numel(), generator=torch.Generator().manual_seed(0))[:_SAMPLE].to(r.device)
        r, s = r[chosen], s[chosen]
    squares, scales = r.abs().clamp_max(_HUGE).double().square(), s.double().square()
    if squares.numel() == 0:
        return HitModel(0.0, 1.0, 1.0, 1.0, 0.0)
    ratios, middle = squares / scales, scales.median().item()
    core = max((ratios.median().sqrt() / 0.6745).item(), 1e-6)
    outside = ratios > (4 * core) ** 2
    noise = squares[outside].mean().item() if bool(outside.any()) else 100 * core**2 * middle
    share = min(max(outside.double().mean().item(), 1e-6), prior.most)
    model = HitModel(share, noise**0.5, 0.9 * core, 2 * core, min(0.15, prior.heavy))
    for _ in range(_STEPS):
        weight = torch.softmax(model._parts(squares, scales), 0)
        total = weight.sum(1).tolist()
        a = max(((weight[0] * ratios).sum().item() / max(total[0], 1.0)) ** 0.5, 1e-6)
        b = ((weight[1] * ratios).sum().item() / max(total[1], 1.0)) ** 0.5
        b = min(max(b, 1.2 * a), prior.width * a)
        heavy = min(max(total[1] / max(total[0] + total[1], 1.0), 1e-4), prior.heavy)
        power = (weight[2] * squares).sum().item() / max(total[2], 1e-3)
        noise = max(power, 4 * b**2 * middle) ** 0.5
        model = HitModel(min(max(total[2] / len(squares), 1e-9), prior.most), noise, a, b, heavy)
    return model


def _normal(squares: Tensor, variance: Tensor) -> Tensor:
    return -0.5 * (squares / variance + variance.log())
