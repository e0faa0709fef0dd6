"""The span of a layer's clean patches: an orthonormal basis, whole or cut off where the energy is spent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.spans.moments import GRAM_ROUNDING, SAMPLE, Moments

# Singular values below this share of the largest are rounding, by the precision the patches were computed in.
_ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Span:
    """An orthonormal basis of clean patches, leading directions first.

    Attributes:
        directions: Shape (fan_in, r), float64.
        energy: Share of the patches' energy along each direction, shape (r,), descending, sum at most 1.
        sampled: Whether the basis comes from fewer patches than were seen.
    """

    directions: Tensor
    energy: Tensor
    sampled: bool = False

    @property
    def rank(self) -> int:
        """Number of directions."""
        return self.directions.shape[1]

    @property
    def full(self) -> bool:
        """Whether the span is the whole space, so that nothing lies outside it."""
        return self.rank == self.directions.shape[0]

    def holding(self, share: float) -> Span:
        """Keep the fewest leading directions that hold at least `share` of the energy.

        >>> span = Span(torch.eye(3).double(), torch.tensor([0.9, 0.09, 0.01]).double())
        >>> span.holding(0.95).rank
        2
        """
        kept = int((self.energy.cumsum(0) < share).sum()) + 1
        return Span(self.directions[:, :kept], self.energy[:kept], self.sampled)


def span_of(moments: Moments, group: int, *, at_most: int | None = None) -> Span:
    """Find the span of one group's clean patches: col(X̃) = col(E[x̃x̃ᵀ]).

    Args:
        moments: Of the layer.
        group: Which group of the layer's kernels.
        at_most: With more numbers a patch than this, use a sample of the patches, which yields at most 1,024
            directions; good enough to look at, never to certify with.

    Returns:
        The basis, down to the precision in which the patches were computed.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]]).double()
        >>> span_of(Moments(2, None, None, x, x), 0).rank
        2
    """
    dtype = torch.float64 if moments.rows.dtype == torch.float64 else torch.float32
    limit = _ROUNDING[dtype]
    fan_in = moments.rows.shape[2]
    many = moments.gram is not None or moments.rows.shape[1] > SAMPLE
    sampled = many and at_most is not None and fan_in > at_most
    if sampled:
        rows = moments.rows[group]
        values, vectors = _leading(rows[:: -(-len(rows) // SAMPLE)].double())
        kept = values > values[:1] * max(limit**2, GRAM_ROUNDING[torch.float64])
    elif moments.gram is not None:
        values, vectors = torch.linalg.eigh(moments.gram[group])
        values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
        # Made in double precision they carry the rounding of the patches alone.
        lost = max(limit**2, GRAM_ROUNDING[torch.float64]) if moments.precise else GRAM_ROUNDING[dtype]
        kept = values > values[:1] * lost
    else:
        _, roots, right = torch.linalg.svd(moments.rows[group].double(), full_matrices=False)
        values, vectors = roots.square(), right.mT
        kept = roots > roots[:1] * limit
    total = values.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return Span(vectors[:, kept], values[kept] / total, sampled)


def _leading(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and directions by way of the small Gram matrix: fast, and precise enough to look at."""
    values, left = torch.linalg.eigh(rows @ rows.mT)
    values, left = values.flip(0).clamp_min(0), left.flip(1)
    return values, rows.mT @ left / values.sqrt().clamp_min(1e-150)
