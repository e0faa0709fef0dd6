"""From the arguments of `lad` to the problem that the methods solve, and the checks on the way."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.errors import InputError
from depurate.solver._basis import Basis, exponents, orthonormal_basis
from depurate.solver._masks import largest
from depurate.solver._penalised import penalised_basis
from depurate.solver._problem import Problem

# Relative rounding error assumed in the data, and the gap asked for, by precision.
ROUNDING = {torch.float64: 1e-11, torch.float32: 2e-5}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
# Smaller weights count as this share of a target's largest, so that every row keeps an open box.
_LEAST_WEIGHT = 1e-12
# A ridge below the first, in scaled units, is as good as that; past the other its coefficients are no numbers any more.
_LEAST_RIDGE, _MOST_RIDGE = 1e-300, 1e300


@dataclass(frozen=True)
class Options:
    """What makes the problem more than plain least absolute deviations; see `lad`."""

    quantile: float
    weights: Tensor | None
    huber: float
    ridge: float
    extra: Tensor | None


@dataclass(frozen=True)
class Setup:
    """A problem in scaled units with the way back to the caller's.

    Attributes:
        problem: Targets scaled to size one by powers of two.
        basis: Shared basis and its map to coefficients.
        size: Scale of every target, shape (p, 1).
        weight: Scale of every target's weights, by which its losses and dual are divided, shape (p, 1), or None for 1.
        stretch: Scale of the targets' own columns E, shape (p, q), or None; the two below are of the scaled ones.
        shared: Qᵀ E, shape (p, q, k), or None.
        triangle: Upper triangle with E = Q Qᵀ E + own · triangle, shape (p, q, q), or None.
    """

    problem: Problem
    basis: Basis
    size: Tensor
    weight: Tensor | None
    stretch: Tensor | None
    shared: Tensor | None
    triangle: Tensor | None

    def losses(self, found: Tensor) -> Tensor:
        """Translate losses found to the caller's units, shape (p,)."""
        losses = found * self.size[:, 0]
        return losses if self.weight is None else losses * self.weight[:, 0]

    def coefficients(self, found: Tensor) -> tuple[Tensor, Tensor | None]:
        """Translate found coefficients to those of the design (p, r) and of the own columns (p, q)."""
        rank = self.basis.rank
        common, own = found[:, :rank], None
        if self.stretch is not None and self.shared is not None and self.triangle is not None:
            own = torch.linalg.solve_triangular(self.triangle, found[:, rank:, None], upper=True)[:, :, 0]
            common = common - (own[:, None] @ self.shared)[:, 0]
            own = own * (self.size / self.stretch)
        return (common @ self.basis.back).mul_(self.size), own


def check(design: Tensor, targets: Tensor, options: Options) -> None:
    """Raise InputError for arguments that cannot be used."""
    check_tensor(design, "design")
    check_tensor(targets, "targets")
    if design.ndim != 2 or design.shape[0] == 0:
        raise InputError(
            f"design: shape {tuple(design.shape)}; expected (rows, columns) with at least one row"
        )
    rows = design.shape[0]
    if targets.ndim not in (1, 2) or targets.shape[0] != rows:
        raise InputError(f"targets: shape {tuple(targets.shape)}; expected ({rows},) or ({rows}, p)")
    count = 1 if targets.ndim == 1 else targets.shape[1]
    if design.dtype not in ROUNDING or targets.dtype != design.dtype:
        raise InputError(
            f"design is {design.dtype}, targets {targets.dtype}; expected both float64 or both float32"
        )
    _check_values(design, "design", design)
    _check_values(targets, "targets", design)
    if options.weights is not None:
        check_tensor(options.weights, "weights")
        if tuple(options.weights.shape) not in ((rows,), (rows, count)):
            raise InputError(
                f"weights: shape {tuple(options.weights.shape)}; expected ({rows},) or ({rows}, {count})"
            )
        _check_values(options.weights, "weights", design)
        if bool((options.weights < 0).any()):
            raise InputError(f"weights: {options.weights.min().item()}; expected none below zero")
        if bool((options.weights == 0).all(0).any()):
            raise InputError("weights: all zero for a target; expected some above zero")
    if options.extra is not None:
        check_tensor(options.extra, "extra")
        shape = tuple(options.extra.shape)
        if options.extra.ndim != 3 or shape[0] != rows or shape[2] != count:
            raise InputError(f"extra: shape {shape}; expected ({rows}, q, {count})")
        if options.ridge:
            raise InputError(f"extra: not together with ridge={options.ridge}")
        _check_values(options.extra, "extra", design)
    if not 0 < options.quantile < 1:
        raise InputError(f"quantile: {options.quantile}; expected between 0 and 1")
    for name, value in (("huber", options.huber), ("ridge", options.ridge)):
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{name}: {value}; expected a finite number, zero or above")


def check_tensor(value: object, name: str) -> None:
    """Raise InputError for anything but a dense tensor of real numbers."""
    if not isinstance(value, Tensor):
        raise InputError(f"{name}: {type(value).__name__}; expected a torch.Tensor, as torch.as_tensor gives")
    if value.layout != torch.strided:
        raise InputError(f"{name}: {value.layout}; expected a dense tensor")
    if value.is_complex():
        raise InputError(f"{name}: {value.dtype}; expected real numbers")


def _check_values(tensor: Tensor, name: str, design: Tensor) -> None:
    if tensor.device != design.device:
        raise InputError(f"design is on {design.device}, {name} on {tensor.device}; expected one device")
    # The sum is finite where every entry is, overflow aside; only then does the search begin.
    if not bool(tensor.detach().sum().isfinite()):
        bad = (~tensor.isfinite()).nonzero()
        if not bad.shape[0]:
            return
        place = tuple(bad[0].tolist())
        raise InputError(f"{name}: {tensor[place].item()} at index {place}; every entry must be finite")


def set_up(design: Tensor, targets: Tensor, options: Options, rounding: Tensor) -> Setup:
    """Build the scaled problem for checked arguments, in float64."""
    matrix = design.detach().to(torch.float64)
    basis = penalised_basis(matrix) if options.ridge else orthonormal_basis(matrix)
    size, inverse = _powers(largest(targets.detach().T).to(torch.float64)[:, None])
    rows = matrix.new_empty(targets.shape[1], targets.shape[0])
    torch.mul(targets.detach().T, inverse, out=rows)
    weight, unit, shrink = rows.new_ones(1, 1), None, rows.new_ones(1, 1)
    if options.weights is not None:
        weight = options.weights.detach().to(torch.float64)
        weight = (weight[:, None] if weight.ndim == 1 else weight).T.expand(rows.shape)
        weight, unit = least_weighted(weight)
        shrink = 1 / unit
    own = stretch = shared = triangle = None
    if options.extra is not None and options.extra.shape[1]:
        extra = options.extra.detach().to(torch.float64).permute(2, 1, 0)
        stretch, inverse = _powers(extra.abs().amax(2))
        own, shared, triangle = _own_columns(basis, extra * inverse[:, :, None])
    problem = Problem(
        basis=basis.vectors,
        lengths=torch.linalg.vector_norm(basis.vectors, dim=1),
        targets=rows,
        lower=2 * (1 - options.quantile) * weight,
        upper=2 * options.quantile * weight,
        rounding=rounding,
        own=own,
        # w ρ(e) turns at δ for every w: its slope z is w e/δ there.
        smoothing=options.huber / (size * weight) if options.huber else None,
        ridge=_ridge(basis, options.ridge * size * shrink, options.ridge) if options.ridge else None,
    )
    return Setup(problem, basis, size, unit, stretch, shared, triangle)


def least_weighted(weights: Tensor) -> tuple[Tensor, Tensor]:
    """Bring the weights of every target to size one, none below the least share of the largest.

    Args:
        weights: Shape (p, d), positive somewhere in every row.

    Returns:
        The weights and the powers of two they were divided by, shape (p, 1).
    """
    unit, inverse = _powers(weights.amax(1, keepdim=True))
    weights = weights * inverse
    return torch.maximum(weights, _LEAST_WEIGHT * weights.amax(1, keepdim=True)), unit


def _ridge(basis: Basis, strength: Tensor, ridge: float) -> Tensor:
    """Give the diagonal of R, shape (p, k): in the penalised basis ‖u‖² = Σ c_i² ‖back_i‖²."""
    inverse = torch.linalg.vector_norm(basis.back, dim=1)
    diagonal: Tensor = (strength * inverse * inverse).clamp_min(_LEAST_RIDGE)
    if basis.rank and bool((diagonal > _MOST_RIDGE).all(1).any()):
        raise InputError(
            f"ridge: {ridge} times target over squared design passes {_MOST_RIDGE:.0e}; scale the design's columns up"
        )
    return diagonal.clamp_max(_MOST_RIDGE)


def _powers(peak: Tensor) -> tuple[Tensor, Tensor]:
    """Find the powers of two next to positive numbers and their inverses, both within the numbers; 1 for zero."""
    exponent = exponents(peak).clamp(-1022, 1022)
    one = torch.ones_like(peak)
    return torch.ldexp(one, exponent), torch.ldexp(one, -exponent)


def _own_columns(basis: Basis, extra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Orthonormalise every target's own columns against Q and one another; dependent ones become zero."""
    count, columns, _ = extra.shape
    own, shared = torch.zeros_like(extra), extra @ basis.vectors
    triangle = extra.new_zeros(count, columns, columns)
    for index in range(columns):
        rest = extra[:, index]
        before = torch.linalg.vector_norm(rest, dim=1)
        for _ in range(2):
            rest = rest - (rest @ basis.vectors) @ basis.vectors.T
            part = (own[:, :index] @ rest[:, :, None])[:, :, 0]
            rest = rest - (part[:, None] @ own[:, :index])[:, 0]
            triangle[:, :index, index] += part
        after = torch.linalg.vector_norm(rest, dim=1)
        alive = after > 1e-10 * before
        triangle[:, index, index] = torch.where(alive, after, 1.0)
        own[:, index] = torch.where(alive[:, None], rest / torch.where(alive, after, 1.0)[:, None], 0.0)
    return own, shared, triangle
