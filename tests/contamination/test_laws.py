"""Laws against their distributions in SciPy."""

import pytest
import torch
from scipy import stats

from depurate import InputError
from depurate.contamination import Cauchy, Constant, Gaussian, Uniform


@pytest.mark.parametrize(
    ("law", "reference"),
    [
        (Gaussian(0.3), stats.norm(scale=0.3)),
        (Uniform(2.0), stats.uniform(loc=-2, scale=4)),
        (Cauchy(0.1), stats.cauchy(scale=0.1)),
    ],
    ids=["gaussian", "uniform", "cauchy"],
)
def test_draws_follow_the_law(law, reference):
    values = law.draw(20_000, torch.Generator().manual_seed(3))
    assert values.dtype == torch.float64 and bool(values.isfinite().all())
    assert stats.kstest(values.numpy(), reference.cdf).pvalue > 1e-3


def test_the_repr_is_the_test_id():
    assert repr(Cauchy(0.5)) == "Cauchy(scale=0.5)"
    assert repr(Constant(-2.0)) == "Constant(value=-2.0)"


@pytest.mark.parametrize("law", [Gaussian, Uniform, Cauchy], ids=lambda law: law.__name__)
@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(law, scale):
    with pytest.raises(InputError, match=rf"{law.__name__}\(scale={scale}\)"):
        law(scale)


def test_a_constant_must_be_finite():
    with pytest.raises(InputError, match="finite"):
        Constant(float("nan"))
