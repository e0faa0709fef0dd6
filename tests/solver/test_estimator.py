import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import QuantileRegressor
from sklearn.utils.estimator_checks import check_estimator

from depurate.errors import InputError
from depurate.solver.estimator import MultiTargetLAD


def test_passes_the_checks_of_scikit_learn():
    check_estimator(MultiTargetLAD(), on_skip=None)


@pytest.mark.parametrize("quantile", [0.2, 0.5])
def test_agrees_with_the_quantile_regressor(quantile):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 3)), rng.standard_normal((80, 2))
    model = MultiTargetLAD(quantile=quantile).fit(x, y)
    for column in range(2):
        other = QuantileRegressor(quantile=quantile, alpha=0, solver="highs").fit(x, y[:, column])
        np.testing.assert_allclose(model.coef_[column], other.coef_, atol=1e-8)
        np.testing.assert_allclose(model.intercept_[column], other.intercept_, atol=1e-8)
    assert model.predict(x).shape == (80, 2)


def test_the_intercept_is_a_number_for_one_target_and_an_array_for_several():
    x, y = np.arange(6.0)[:, None], np.arange(6.0)
    assert isinstance(MultiTargetLAD().fit(x, y).intercept_, float)
    assert MultiTargetLAD().fit(x, y[:, None]).intercept_.shape == (1,)


def test_weights_may_be_one_number_and_zeros_leave_samples_out():
    rng = np.random.default_rng(1)
    x, y, weight = rng.standard_normal((40, 3)), rng.standard_normal(40), rng.integers(0, 3, 40)
    plain = MultiTargetLAD().fit(x, y)
    np.testing.assert_allclose(MultiTargetLAD().fit(x, y, sample_weight=2.5).coef_, plain.coef_, atol=1e-12)
    model = MultiTargetLAD().fit(x, y, sample_weight=weight)
    repeated = MultiTargetLAD().fit(np.repeat(x, weight, 0), np.repeat(y, weight))
    np.testing.assert_allclose(model.coef_, repeated.coef_, atol=1e-10)
    assert model.solution_.residuals.shape == (40,)


def test_what_is_not_solved_is_warned_of():
    rng = np.random.default_rng(2)
    with pytest.warns(ConvergenceWarning, match="2 of 2 targets are inexact"):
        MultiTargetLAD(max_iterations=1).fit(rng.standard_normal((50, 4)), rng.standard_normal((50, 2)))


@pytest.mark.parametrize("weight", [1j * np.ones(6), ["a"] * 6, 1j])
def test_weights_that_are_no_real_numbers_are_named(weight):
    with pytest.raises(InputError, match=r"^sample_weight: expected real numbers"):
        MultiTargetLAD().fit(np.arange(6.0)[:, None], np.arange(6.0), sample_weight=weight)


@pytest.mark.parametrize("name", ["quantile", "huber", "ridge"])
def test_parameters_that_are_no_numbers_are_named(name):
    with pytest.raises(InputError, match=f"^{name}: 'a'"):
        MultiTargetLAD(**{name: "a"}).fit(np.arange(6.0)[:, None], np.arange(6.0))
