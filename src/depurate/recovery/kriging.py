"""Robust kriging: every entry predicted from the rest of its kernel, and from what other kernels look like."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from depurate.spans import Moments

_FOLDS = 4
_MOST_KERNELS = 1024
# Up to this many numbers a kernel the covariance itself is used, beyond it a sample of patches.
_WIDEST = 1200


@dataclass(frozen=True)
class Field:
    """Covariance of a kernel's update: K = C/c̄ + ω E/ē, with independent noise of variance ν on every entry.

    C is the second moment of the layer's clean patches, E that of the other kernels' updates, each divided by its
    mean diagonal.

    Attributes:
        others: ω.
        nugget: ν.
    """

    others: float
    nugget: float


FIELDS = tuple(
    Field(*pair)
    for pair in ((0.1, 0.1), (0.1, 0.3), (0.1, 1.0), (0.1, 3.0), (0.3, 0.3), (0.3, 1.0), (0.3, 3.0))
)


@dataclass(frozen=True, eq=False)
class Ground:
    """Clean patches of a layer in the form that predictions take: F with FᵀF = C/c̄, shape (rows, fan_in)."""

    factor: Tensor

    @cached_property
    def between(self) -> Tensor:
        """FFᵀ, which every prediction with few rows needs."""
        return self.factor @ self.factor.mT

    @cached_property
    def moment(self) -> Tensor:
        """FᵀF, which every other one needs."""
        return self.factor.mT @ self.factor

    @classmethod
    def of(cls, moments: Moments) -> Ground:
        """Make it from a layer's moments; the groups of a grouped convolution count as one.

        >>> x = torch.eye(2).expand(1, 2, 2)
        >>> Ground.of(Moments(2, x.double() / 2, None, x, None)).factor.square().sum(0).tolist()
        [1.0, 1.0]
        """
        fan_in = moments.rows.shape[2]
        if moments.gram is not None and fan_in <= _WIDEST:
            values, vectors = torch.linalg.eigh(moments.gram.mean(0))
            factor = (vectors * values.clamp_min(0).sqrt()).mT
        else:
            rows = moments.rows.flatten(0, 1)
            factor = rows[:: -(-len(rows) // _MOST_KERNELS)].double()
        return cls((factor / _size(factor)).float())


def predict_entries(update: Tensor, hits: Tensor, ground: Ground, field: Field, passes: int = 6) -> Tensor:
    """Predict each entry of a layer's update from the entries that are good.

    For a good entry the prediction leaves the entry itself out: D − (D − DA) / (1 − A_ii), A = K(K + νI)⁻¹. Hit
    entries are filled by D_S ← (DA)_S, repeated. E leaves a kernel's own fold of the kernels out, so that no kernel
    is its own witness.

    Args:
        update: D, kernels minus anchor, each kernel on its own scale, shape (kernels, fan_in); hit entries hold
            their last prediction, or zero.
        hits: Entries not to be believed, same shape, bool.
        ground: Clean patches.
        field: Covariance.
        passes: Times that hit entries are filled anew.

    Returns:
        Predictions, same shape.

    >>> x = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    >>> hit = torch.tensor([[False, True]])
    >>> found = predict_entries(torch.tensor([[3.0, 0.0]]), hit, Ground(x / 2.5**0.5), Field(0.0, 0.1), 50)
    >>> 2.6 < found[0, 1] < 3
    tensor(True)

    Source: kriging, the conditional mean of a Gaussian field; leave-one-out by the identity of Craven & Wahba 1979.
    """
    predicted = torch.empty_like(update)
    for own, smooth, filled in _filled(update, hits, ground, field, passes):
        guess = smooth.apply(filled)
        predicted[own] = torch.where(hits[own], guess, filled - (filled - guess) / (1 - smooth.diagonal))
    return predicted


def predict_hits(update: Tensor, hits: Tensor, ground: Ground, field: Field, passes: int) -> Tensor:
    """Predict hit entries alone, as `predict_entries` does in one pass more; good ones come back as given.

    >>> x = torch.tensor([[1.0, 1.0], [2.0, 2.0]])
    >>> hit = torch.tensor([[False, True]])
    >>> found = predict_hits(torch.tensor([[3.0, 0.0]]), hit, Ground(x / 2.5**0.5), Field(0.0, 0.1), 50)
    >>> float(found[0, 0]), bool(2.6 < found[0, 1] < 3)
    (3.0, True)
    """
    predicted = torch.empty_like(update)
    for own, _, filled in _filled(update, hits, ground, field, passes):
        predicted[own] = filled
    return predicted


def _filled(
    update: Tensor, hits: Tensor, ground: Ground, field: Field, passes: int
) -> Iterator[tuple[Tensor, _Smoother, Tensor]]:
    """Each fold of the kernels with what smooths it, and its update with hit entries filled."""
    fold = torch.arange(len(update), device=update.device) % min(_FOLDS, len(update))
    for turn in range(int(fold.max()) + 1):
        own = fold == turn
        smooth = _smoother(ground, update[~own], field)
        filled = update[own]
        for _ in range(passes):
            filled = torch.where(hits[own], smooth.apply(filled), filled)
        yield own, smooth, filled


@dataclass(frozen=True)
class _Smoother:
    """D ↦ DA with A = Fᵀ(LLᵀ)⁻¹F (few rows) or A = I − νB (few columns)."""

    matrix: Tensor
    nugget: float
    root: Tensor | None = None

    def apply(self, update: Tensor) -> Tensor:
        if self.root is None:
            return update - self.nugget * (update @ self.matrix)
        smoothed: Tensor = torch.cholesky_solve(self.matrix @ update.mT, self.root).mT @ self.matrix
        return smoothed

    @property
    def diagonal(self) -> Tensor:
        if self.root is None:
            return (1 - self.nugget * self.matrix.diagonal()).clamp(0.0, 0.99)
        whitened: Tensor = torch.linalg.solve_triangular(self.root, self.matrix, upper=False)
        return whitened.square().sum(0).clamp(max=0.99)


def _smoother(ground: Ground, others: Tensor, field: Field) -> _Smoother:
    others = (
        others[:: -(-len(others) // _MOST_KERNELS)] if field.others > 0 and bool(others.any()) else others[:0]
    )
    others = others * (field.others**0.5 / _size(others))
    rows, fan_in = len(ground.factor) + len(others), others.shape[1]
    if rows < fan_in:
        mixed = ground.factor @ others.mT
        system = torch.cat(
            [torch.cat([ground.between, mixed], dim=1), torch.cat([mixed.mT, others @ others.mT], dim=1)]
        )
    else:
        system = ground.moment + others.mT @ others
    system.diagonal().add_(field.nugget)
    root = torch.linalg.cholesky(system)
    if rows < fan_in:
        return _Smoother(torch.cat([ground.factor, others]), field.nugget, root)
    return _Smoother(torch.cholesky_inverse(root), field.nugget)


def _size(rows: Tensor) -> Tensor:
    """Root of the mean diagonal of rowsᵀ rows."""
    return rows.square().sum(0).mean().sqrt().clamp_min(1e-12)
