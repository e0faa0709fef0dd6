"""Low rank + sparse: robust principal components of every layer's weights; the sparse part is thrown away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.weights import deviation, repair_weights


@dataclass(frozen=True)
class LowRankSparse:
    """min ‖L‖_* + λ‖S‖₁ subject to L + S = W, λ = 1/√max(rows, columns); the layer becomes L.

    Solved by the augmented Lagrangian method of Lin, Chen & Ma. Entries that no training produces (not finite, or
    a thousand deviations out) are set to zero first, because they would swamp the arithmetic.

    Attributes:
        iterations: At most so many.
        tolerance: Of ‖W − L − S‖ over ‖W‖.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    source: ClassVar[str] = "Candès, Li, Ma & Wright, J. ACM 2011, arXiv 0912.3599"
    iterations: int = 100
    tolerance: float = 1e-6

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        def repair(_: str, weights: Tensor) -> Tensor:
            absurd = ~(weights.abs() <= 1000 * deviation(weights))
            return self.low_rank(weights.masked_fill(absurd, 0.0))

        return repair_weights(model, repair)

    def low_rank(self, matrix: Tensor) -> Tensor:
        """Split a matrix and return its low-rank part."""
        size = matrix.norm()
        if not size:
            return matrix
        weight = max(matrix.shape) ** -0.5
        spectral = torch.linalg.matrix_norm(matrix, ord=2)
        multiplier = matrix / torch.maximum(spectral, matrix.abs().max() / weight)
        penalty, sparse = 1.25 / spectral, torch.zeros_like(matrix)
        low = matrix
        for _ in range(self.iterations):
            left, values, right = torch.linalg.svd(
                matrix - sparse + multiplier / penalty, full_matrices=False
            )
            low = (left * (values - 1 / penalty).clamp(min=0)) @ right
            rest = matrix - low + multiplier / penalty
            sparse = rest.sign() * (rest.abs() - weight / penalty).clamp(min=0)
            gap = matrix - low - sparse
            multiplier = multiplier + penalty * gap
            penalty = penalty * 1.5
            if gap.norm() <= self.tolerance * size:
                break
        return low
