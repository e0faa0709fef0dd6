import numpy as np
import pytest
from sklearn.linear_model import QuantileRegressor
from sklearn.utils.estimator_checks import check_estimator

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
