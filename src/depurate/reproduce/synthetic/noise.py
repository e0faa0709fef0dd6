"""Sparse noise whose support grows with ε, so that one draw serves every ε."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination import Cauchy, Constant, Gaussian, Law, Uniform

LAWS: dict[str, Law] = {
    "gaussian": Gaussian(),
    "uniform": Uniform(),
    "cauchy": Cauchy(),
    "same-sign": Constant(),
}
"""Laws Q by the names that configs use."""
ADVERSARY = "adversarial"
"""Noise that `hostile` places."""


@dataclass(frozen=True, eq=False)
class NestedNoise:
    """Noise of p weight vectors for every ε at once: z(ε) = v where level < ε, else 0.

    For one ε this is (1 − ε) δ₀ + ε Q. Supports are nested and keep their values, so that l1, if it fails at one ε,
    fails at every larger one: Σ_S sign(z)·h ≥ Σ_{Sᶜ} |h| for some h of the span goes on to hold when S grows.

    Attributes:
        levels: Shape (d, p), in [0, 1).
        values: v, shape (d, p).
    """

    levels: Tensor
    values: Tensor

    def at(self, fraction: Tensor | float) -> Tensor:
        """z(ε) for one ε, or for one a column, shape (p,)."""
        return torch.where(self.levels < fraction, self.values, 0.0)

    def take(self, columns: Tensor) -> NestedNoise:
        """The noise of some of the weight vectors."""
        return NestedNoise(self.levels[:, columns], self.values[:, columns])


def noise_of(law: str, design: Tensor, count: int, seed: int) -> NestedNoise:
    """Noise of a law of `LAWS`, or of the adversary, for `count` weight vectors of one design."""
    if law == ADVERSARY:
        return hostile(design, count, seed)
    return drawn(LAWS[law], (len(design), count), seed)


def drawn(law: Law, shape: tuple[int, int], seed: int) -> NestedNoise:
    """Draw places and values independently of everything else.

    >>> noise = drawn(Gaussian(), (1000, 2), seed=0)
    >>> bool(((noise.at(0.1) != 0) <= (noise.at(0.2) != 0)).all()), 60 < int((noise.at(0.1)[:, 0] != 0).sum()) < 140
    (True, True)
    """
    generator = torch.Generator().manual_seed(seed)
    levels = torch.rand(shape, generator=generator, dtype=torch.float64)
    values = law.draw(shape[0] * shape[1], generator).reshape(shape)
    return NestedNoise(levels, values)


def hostile(design: Tensor, count: int, seed: int) -> NestedNoise:
    """Place noise as an adversary who knows the design: on the largest entries of a direction h of its span.

    z(ε) = h on the share ε of entries with the largest |h|: as soon as they hold half of ‖h‖₁, the span explains
    the noise better than the truth. Every weight vector has a direction of its own, drawn at random.

    Args:
        design: Shape (d, r).
        count: Weight vectors.
        seed: Of the directions.
    """
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(design).Q
    directions = basis @ torch.randn(basis.shape[1], count, generator=generator, dtype=design.dtype)
    order = directions.abs().argsort(dim=0, descending=True).argsort(dim=0)
    return NestedNoise((order.to(design.dtype) + 0.5) / len(design), directions * len(design) ** 0.5)
