"""A ridge on columns of very different sizes, against optima in exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from depurate import lad
from depurate.solver import Status
from depurate.solver._penalised import penalised_basis
from depurate.solver.estimator import MultiTargetLAD

D = torch.float64


def exactly(values):
    return np.vectorize(Fraction, otypes=[object])(np.asarray(values, dtype=float))


def solve(matrix, right):
    """Gauss and Jordan on rational numbers."""
    table = np.column_stack([matrix, right])
    for place in range(len(table)):
        pivot = next(row for row in range(place, len(table)) if table[row, place])
        table[[place, pivot]] = table[[pivot, place]]
        table[place] = table[place] / table[place, place]
        for row in range(len(table)):
            if row != place:
                table[row] = table[row] - table[row, place] * table[place]
    return table[:, -1]


def objective(design, target, weights, ridge, coefficients):
    """The documented objective of coefficients, without rounding."""
    design, target, weights, u = map(exactly, (design, target, weights, coefficients))
    return (weights * abs(target - design @ u)).sum() + Fraction(ridge) / 2 * (u @ u)


def optimum(design, target, weights, ridge, dual):
    """The exact optimum from the rows whose dual is inside its box; all conditions of optimality are checked.

    ridge u = Aᵀz, z = ±w where the residual is not zero.
    """
    free = np.abs(dual) < weights * (1 - 1e-7)
    signs = np.sign(dual)
    design, target, weights = map(exactly, (design, target, weights))
    force = design[~free].T @ (weights * signs.astype(int))[~free]
    inner = design[free]
    z = solve(inner @ inner.T, Fraction(ridge) * target[free] - inner @ force)
    assert all(abs(z) <= weights[free])
    u = (force + inner.T @ z) / Fraction(ridge)
    assert all((target - design @ u)[~free] * signs.astype(int)[~free] >= 0)
    return u


def instance(kind, seed):
    rng = np.random.default_rng(seed)
    rows, columns = int(rng.integers(4, 11)), int(rng.integers(2, 6))
    design = rng.integers(-5, 6, (rows, columns)).astype(float)
    if kind == "generic":
        design = rng.standard_normal((rows, columns))
    if kind == "duplicated":
        design[:, -1] = design[:, 0]
    if kind == "low rank":
        design = design[:, :2] @ rng.integers(-1, 2, (2, columns))
    if kind == "wide":
        design = rng.standard_normal((3, 6))
    if kind == "nearly dependent":
        design[:, 1] = design[:, 0] + 2.0**-13 * design[:, -1]
    design = design * 2.0 ** rng.integers(-40, 41, design.shape[1])
    return design, rng.standard_normal(len(design)), 10.0 ** rng.uniform(-1, 1, len(design))


@pytest.mark.parametrize(
    "kind", ["generic", "integers", "duplicated", "low rank", "wide", "nearly dependent"]
)
@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0, 1e8])
def test_the_optimum_is_that_of_exact_arithmetic(kind, ridge):
    for seed in range(12):
        design, target, weights = instance(kind, seed)
        found = lad(torch.tensor(design), torch.tensor(target), weights=torch.tensor(weights), ridge=ridge)
        u, size = found.coefficients.numpy(), float((weights * abs(target)).sum())
        reached = float(objective(design, target, weights, ridge, u))
        assert found.objective.item() == pytest.approx(reached, rel=1e-10, abs=1e-11 * size), seed
        if found.status[0] is Status.INEXACT:  # an exact fit, whose objective is next to nothing
            assert reached <= 1e-6 * size, seed
            continue
        best = optimum(design, target, weights, ridge, found.dual.numpy())
        assert reached == pytest.approx(
            float(objective(design, target, weights, ridge, best)), rel=1e-9, abs=1e-11 * size
        ), seed


def gaussian(*shape, seed=0):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("sizes", "ridge"), [((1, 1e15), 1e-3), ((1e8, 1e-8), 1e-25), ((1, 1e12), 1e-3)])
def test_small_columns_are_not_taken_for_rounding(sizes, ridge):
    matrix = gaussian(60, 2)
    target = matrix.sum(1) + 0.1 * gaussian(60, seed=1)
    design = matrix * torch.tensor(sizes, dtype=D)
    found, free = lad(design, target, ridge=ridge), lad(design, target)
    assert found.rank == 2 and found.status == (Status.CERTIFIED,)
    # The ridge is next to nothing where the columns are that large.
    least = free.objective.item() + ridge / 2 * free.coefficients.square().sum().item()
    assert found.objective.item() <= least * (1 + 1e-12)
    torch.testing.assert_close(found.fitted, free.fitted, rtol=0, atol=1e-2)


def test_a_feature_beside_a_timestamp_is_fitted():
    rng = np.random.default_rng(0)
    time, feature = 1.7e18 + rng.integers(0, 10**15, 200), rng.standard_normal(200)
    target = 3 * feature + 0.1 * rng.standard_normal(200)
    model = MultiTargetLAD(ridge=1e-3).fit(np.column_stack([time, feature]), target)
    assert model.coef_[1] == pytest.approx(3, abs=0.05)
    assert Status.INEXACT not in model.solution_.status


@pytest.mark.parametrize("shape", [(40, 12), (20, 60), (12, 12)])
def test_the_basis_is_what_it_says(shape):
    rng = np.random.default_rng(0)
    matrix = gaussian(*shape)
    matrix[:, 3], matrix[:, 5] = 2 * matrix[:, 1], 0.0
    design = matrix * torch.tensor(10.0 ** rng.uniform(-20, 20, shape[1]))
    basis = penalised_basis(design)
    assert basis.rank == min(shape[0], shape[1] - 2)
    unit = torch.eye(basis.rank, dtype=D)
    torch.testing.assert_close(basis.vectors.T @ basis.vectors, unit, rtol=0, atol=1e-13)
    torch.testing.assert_close(design @ basis.back.T, basis.vectors, rtol=0, atol=1e-11)
    length = basis.back.norm(dim=1)
    share = length.div(torch.maximum(length, length[:, None]))
    products = (basis.back / length[:, None]) @ (basis.back / length[:, None]).T - unit
    assert bool(((products * share * share.T).abs() <= 1e-14).all())
    assert bool((basis.back[:, 5] == 0).all())
    # Of least norm: along the two dependent columns nothing is to be gained.
    null = torch.zeros(shape[1], dtype=D)
    null[3], null[1] = design[:, 1].norm(), -design[:, 3].norm()
    slack = (basis.back @ (null / null.norm())).abs() / length
    assert bool((slack <= 1e-9).all())


def test_a_column_that_all_but_vanishes_is_no_obstacle():
    matrix = gaussian(30, 3)
    target = matrix.sum(1) + gaussian(30, seed=1)
    for size in (1e-200, 1e-310):
        found = lad(matrix * torch.tensor([1.0, 1.0, size], dtype=D), target, ridge=1.0)
        usual = lad(matrix[:, :2], target, ridge=1.0)
        assert found.status == usual.status
        assert found.objective.item() == pytest.approx(usual.objective.item(), rel=1e-12)
