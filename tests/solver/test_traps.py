"""Problems on which rounding, weights or shapes once led to a wrong word or a raw exception."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from depurate import lad
from depurate.errors import InputError
from depurate.solver import Status

D = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("method", ["auto", "complement", "descent", "interior"])
def test_the_median_of_an_even_sample_is_never_called_unique(method):
    for seed in range(60):
        found = lad(
            torch.ones(2 * (1 + seed % 10), 1, dtype=D),
            draw(2 * (1 + seed % 10), 1, seed=seed),
            method=method,
        )
        assert not bool(found.certified.any())
        assert method == "descent" or bool((found.gap <= 1e-9).all())  # which may give up on few rows


@pytest.mark.parametrize("quantile", [0.25, 0.5])
def test_a_quantile_that_falls_between_two_values_is_not_unique(quantile):
    for seed in range(40):
        found = lad(torch.ones(20, 1, dtype=D), draw(20, 1, seed=seed), quantile=quantile)
        assert not bool(found.certified.any())


@pytest.mark.parametrize("quantile", [0.5, 0.3])
def test_weighted_huber_is_the_sum_of_weighted_losses(quantile):
    design, target = draw(30, 3), draw(30, seed=1)
    weights, turn = torch.rand(30, dtype=D, generator=torch.Generator().manual_seed(2)), 0.5

    def documented(coefficients):
        error = target - design @ torch.as_tensor(coefficients)
        high, low = 2 * quantile, 2 * (1 - quantile)
        slope = (error / turn).clamp(-low, high)
        return float((weights * (slope * error - turn * slope.square() / 2)).sum())

    found = lad(design, target, huber=turn, quantile=quantile, weights=weights)
    best = minimize(documented, np.zeros(3), method="BFGS", options={"gtol": 1e-10})
    assert found.objective.item() == pytest.approx(documented(found.coefficients.numpy()), rel=1e-12)
    assert found.objective.item() == pytest.approx(best.fun, rel=1e-9)


def test_a_common_weight_changes_no_huber_fit():
    design, target = draw(30, 3), draw(30, seed=1)
    fits = [
        lad(design, target, huber=0.5, weights=torch.full((30,), weight, dtype=D)).coefficients
        for weight in (1.0, 2.0, 10.0)
    ]
    assert all(torch.allclose(fit, fits[0], atol=1e-9) for fit in fits)


@pytest.mark.parametrize("apart", [1e-8, 1e-10, 1e-11, 1e-12, 1e-13, 0.0])
def test_a_ridge_holds_columns_that_are_all_but_equal(apart):
    first, targets = draw(100, 5), draw(100, 3, seed=1)
    design = torch.cat([first, first[:, :1] + apart * draw(100, 1, seed=2)], 1)
    found = lad(design, targets, ridge=1.0)
    size = found.coefficients.square().sum(0)
    objective = (targets - design @ found.coefficients).abs().sum(0) + size / 2
    assert bool(found.certified.all())
    assert torch.allclose(found.objective, objective, rtol=1e-9)
    assert bool((objective <= targets.abs().sum(0)).all())


def test_a_ridge_on_columns_of_very_different_sizes_is_solved():
    design = draw(40, 5) * torch.tensor([1, 1e3, 1e6, 1e-6, 1e9], dtype=D)
    targets = draw(40, 2, seed=1)
    found = lad(design, targets, ridge=1e-3)
    assert bool((found.objective <= targets.abs().sum(0)).all())
    # Too small for the largest column to show that the fit is unique.
    assert found.status == (Status.OPTIMAL,) * 2 and found.rank == 5
    objective = (targets - design @ found.coefficients).abs().sum(0)
    objective += 1e-3 / 2 * found.coefficients.square().sum(0)
    torch.testing.assert_close(found.objective, objective, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ridge", [1e-14, 1e-16])
def test_a_ridge_too_small_to_settle_a_median_does_not_make_it_certified(ridge):
    found = lad(torch.ones(4, 1, dtype=D), torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=D), ridge=ridge)
    # The optimum is 2 to the last digit, but any value up to 5 is within the gap.
    assert found.status == (Status.OPTIMAL,)
    assert found.objective.item() == pytest.approx(11, rel=1e-12)


@pytest.mark.parametrize("ridge", [0.1, 1e-3, 1e-6])
def test_a_ridge_that_settles_a_median_is_certified(ridge):
    found = lad(torch.ones(4, 1, dtype=D), torch.tensor([1.0, 2.0, 5.0, 9.0], dtype=D), ridge=ridge)
    assert found.status == (Status.CERTIFIED,)
    assert found.coefficients.item() == pytest.approx(2, rel=1e-9)


@pytest.mark.parametrize(("ridge", "size"), [(1e-20, 1.0), (1e-300, 1.0), (1e-8, 1e8), (1.0, 1e150)])
@pytest.mark.parametrize("huber", [0.0, 1e-3])
def test_a_ridge_next_to_nothing_gives_the_fit_without(ridge, size, huber):
    design, targets = draw(30, 4), draw(30, 2, seed=1)
    found = lad(size * design, targets, ridge=ridge, huber=huber)
    assert found.status == (Status.CERTIFIED,) * 2
    torch.testing.assert_close(found.fitted, lad(design, targets, huber=huber).fitted, rtol=1e-8, atol=1e-8)


def test_a_ridge_past_all_numbers_is_refused():
    with pytest.raises(InputError, match=r"ridge: 1\.0 times"):
        lad(1e-200 * draw(30, 4), draw(30, 2, seed=1), ridge=1.0)


@pytest.mark.parametrize("turn", [1e16, 1e200, 1e300])
def test_huber_past_all_residuals_is_least_squares(turn):
    design, target = draw(30, 4), draw(30, seed=1)
    found = lad(design, target, huber=turn)
    assert found.status == (Status.CERTIFIED,) and abs(found.gap.item()) <= 1e-12
    least = torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    torch.testing.assert_close(found.coefficients, least)
    squares = (target - design @ least).square().sum().item()
    assert found.objective.item() * turn == pytest.approx(squares / 2)


@pytest.mark.parametrize("columns", [5, 9])
def test_reweighting_leaves_alone_what_is_fitted_exactly(columns):
    found = lad(draw(5, columns), draw(5, 2, seed=1), reweight=1)
    assert torch.equal(found.objective, torch.zeros(2, dtype=D)) and bool(found.certified.all())
    lad(draw(5, 5), draw(5, 2, seed=1), extra=draw(5, 1, 2, seed=2), reweight=1)


def test_huber_without_any_column():
    target = draw(5)
    found = lad(torch.zeros(5, 2, dtype=D), target, huber=0.5)
    slope = (target / 0.5).clamp(-1, 1)
    assert found.objective.item() == pytest.approx(float((slope * target - slope.square() / 4).sum()))
    assert found.gap.item() <= 1e-12


def test_a_start_with_a_column_serves_a_flat_target():
    design, target = draw(50, 3), draw(50, seed=1)
    assert torch.allclose(
        lad(design, target, start=lad(design, target[:, None])).coefficients, lad(design, target).coefficients
    )


@pytest.mark.parametrize("quantile", [0.2, 0.5])
def test_a_target_of_zeros_needs_no_coefficient(quantile):
    found = lad(draw(4, 2), torch.zeros(4).double(), ridge=1.0, quantile=quantile)
    assert found.status == (Status.CERTIFIED,)
    assert found.coefficients.abs().max() < 1e-300


@pytest.mark.parametrize("size", [1e-310, 1e-300, 1e300])
def test_targets_at_the_ends_of_what_numbers_can_be(size):
    design, target = draw(20, 3), draw(20, 1, seed=1)
    found, usual = lad(design, size * target), lad(design, target)
    assert found.status == usual.status
    assert torch.allclose(found.coefficients / size, usual.coefficients, rtol=1e-3)
