"""Quantiles, weights, Huber, ridge, own columns and reweighting, each against an independent reference."""

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depurate.errors import InputError
from depurate.solver import Status, lad
from problems import highs_loss, sparse_noise


def _convex(design, target, loss, ridge=0.0):
    """The optimal value by CLARABEL through cvxpy; `loss` maps the residual to an expression."""
    u = cp.Variable(design.shape[1])
    problem = cp.Problem(cp.Minimize(loss(target - design @ u) + 0.5 * ridge * cp.sum_squares(u)))
    return problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), quantile=st.sampled_from([0.05, 0.25, 0.5, 0.9]))
def test_quantiles_are_those_of_highs(seed, quantile):
    design, _, y = sparse_noise(40, 4, 2, 1.0, "gaussian", seed)
    solution = lad(design, y, quantile=quantile)
    assert set(solution.status) == {Status.CERTIFIED}
    for column in range(2):
        best = highs_loss(design, y[:, column], 2 * (1 - quantile), 2 * quantile)
        assert float(solution.objective[column]) == pytest.approx(best, rel=1e-8)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_weights_are_those_of_highs(seed):
    design, _, y = sparse_noise(40, 4, 2, 0.5, "gaussian", seed)
    weights = torch.tensor(np.random.default_rng(seed).random((40, 2)))
    weights[:3] = 0
    solution = lad(design, y, weights=weights)
    assert Status.INEXACT not in solution.status
    for column in range(2):
        w = weights[:, column].numpy()
        best = highs_loss(design, y[:, column], w, w)
        assert float(solution.objective[column]) == pytest.approx(best, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("shape", [(40, 4), (60, 30), (20, 30)])
@pytest.mark.parametrize("ridge", [1e-3, 1.0, 100.0])
def test_ridge_is_that_of_clarabel(shape, ridge):
    design, _, y = sparse_noise(*shape, 2, 0.5)
    solution = lad(design, 10 * y, ridge=ridge)
    assert set(solution.status) == {Status.CERTIFIED}
    for column in range(2):
        best = _convex(design.numpy(), 10 * y[:, column].numpy(), cp.norm1, ridge)
        assert float(solution.objective[column]) == pytest.approx(best, rel=1e-7)


@pytest.mark.parametrize("delta", [1e-2, 0.5, 10.0])
def test_huber_is_that_of_clarabel(delta):
    design, _, y = sparse_noise(50, 5, 2, 0.6, "cauchy")
    solution = lad(design, y, huber=delta)
    assert set(solution.status) == {Status.CERTIFIED}
    for column in range(2):
        # cvxpy's huber(e, M) is e² inside M and 2M|e| − M² outside.
        best = _convex(
            design.numpy(), y[:, column].numpy(), lambda e: cp.sum(cp.huber(e, delta)) / (2 * delta)
        )
        assert float(solution.objective[column]) == pytest.approx(best, rel=1e-7)


def test_huber_and_ridge_together():
    design, _, y = sparse_noise(50, 5, 1, 0.6)
    solution = lad(design, y, huber=0.3, ridge=2.0)
    best = _convex(design.numpy(), y[:, 0].numpy(), lambda e: cp.sum(cp.huber(e, 0.3)) / 0.6, ridge=2.0)
    assert float(solution.objective[0]) == pytest.approx(best, rel=1e-7)


def test_own_columns_give_what_the_joined_design_gives():
    design, _, y = sparse_noise(60, 5, 4, 0.4)
    extra = torch.randn(60, 2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    extra[:, 1, 2] = design[:, 0]
    extra[:, 1, 3] = 3 * extra[:, 0, 3]
    solution = lad(design, y, extra=extra)
    for column in range(4):
        joined = torch.cat([design, extra[:, :, column]], 1)
        alone = lad(joined, y[:, column], method="interior")
        assert torch.allclose(solution.fitted[:, column], alone.fitted, atol=1e-9)
        own = extra[:, :, column] @ solution.extra_coefficients[:, column]
        assert torch.allclose(design @ solution.coefficients[:, column] + own, alone.fitted, atol=1e-9)
    assert set(solution.status) == {Status.CERTIFIED}


@pytest.mark.parametrize("kind", ["zero", "twice", "shared"])
def test_own_columns_that_add_nothing_cost_no_certificate(kind):
    design, _, y = sparse_noise(30, 4, 3, 1.0)
    extra = torch.randn(30, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    extra[:, 1] = {"zero": torch.zeros(30, 3).double(), "twice": -2 * extra[:, 0], "shared": design[:, :3]}[
        kind
    ]
    solution, alone = lad(design, y, extra=extra), lad(design, y, extra=extra[:, :1])
    assert bool(solution.certified.all())
    torch.testing.assert_close(solution.objective, alone.objective, rtol=1e-10, atol=0)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1e160, 1e300])
def test_own_columns_of_any_size_are_fitted(size):
    design, _, y = sparse_noise(30, 4, 2, 1.0)
    extra = torch.randn(30, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    usual, solution = lad(design, y, extra=extra), lad(design, y, extra=size * extra)
    assert solution.status == usual.status
    torch.testing.assert_close(solution.objective, usual.objective, rtol=1e-10, atol=0)
    own = solution.extra_coefficients * size
    torch.testing.assert_close(own, usual.extra_coefficients, rtol=1e-8, atol=0)


def test_reweighting_recovers_past_the_reach_of_the_plain_norm():
    design, clean, y = sparse_noise(200, 80, 20, 0.3)
    plain, again = lad(design, y), lad(design, y, reweight=8)

    def recovered(solution):
        return int(((solution.fitted - clean).norm(dim=0) <= 1e-9 * clean.norm(dim=0)).sum())

    assert recovered(again) >= 1.5 * recovered(plain) > 0
    assert (
        (again.zeros > again.rank) == ((again.fitted - clean).norm(dim=0) <= 1e-9 * clean.norm(dim=0))
    ).all()
    assert Status.INEXACT not in again.status
    dual = again.dual * (again.residuals == 0)
    assert (dual.abs() <= again.weights * (1 + 1e-12)).all()


@pytest.mark.parametrize("method", ["trimming", "descent", "interior", "auto"])
def test_every_method_alone_undoes_sparse_noise(method):
    design, clean, y = sparse_noise(300, 60, 12, 0.2)
    solution = lad(design, y, method=method)
    assert ((solution.fitted - clean).norm(dim=0) <= 1e-12 * clean.norm(dim=0)).all()
    assert bool(solution.certified.all())


@pytest.mark.parametrize("law", ["gaussian", "cauchy"])
@pytest.mark.parametrize("method", ["descent", "interior", "auto"])
def test_a_large_generic_problem_is_solved_to_a_vertex(method, law):
    design, _, y = sparse_noise(300, 120, 6, 1.0, law)
    solution = lad(design, y, method=method)
    assert set(solution.status) == {Status.CERTIFIED}
    assert (solution.zeros == solution.rank).all()
    assert float(solution.objective[0]) == pytest.approx(highs_loss(design, y[:, 0]), rel=1e-8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantile": 1.0}, "quantile: 1.0"),
        ({"huber": -1.0}, "huber: -1.0"),
        ({"ridge": float("nan")}, "ridge: nan"),
        ({"weights": torch.tensor([1.0, -2.0])}, "weights: -2.0"),
        ({"weights": torch.zeros(2)}, "weights: all zero"),
        ({"weights": torch.ones(3)}, r"weights: shape \(3,\)"),
        ({"extra": torch.ones(2, 1, 5)}, r"extra: shape \(2, 1, 5\)"),
        ({"extra": torch.ones(2, 1, 1), "ridge": 1.0}, "extra: not together with ridge=1.0"),
        ({"reweight": 2, "ridge": 1.0}, "reweight: 2"),
        ({"method": "trimming", "huber": 1.0}, "trimming"),
        ({"method": "descent", "ridge": 1.0}, "descent"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InputError, match=message):
        lad(torch.ones(2, 1), torch.ones(2), **options)
