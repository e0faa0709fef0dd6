"""The l1 threshold against its published values, simulation of its definition, and measured recovery."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depurate.errors import InputError
from depurate.paper import adversarial_limit, descent_dimension, l1_threshold
from depurate.solver import lad


def cone_distance(sample, hit, imbalance):
    """Squared distance of a Gaussian vector to cone(∂‖z‖₁) (∩ 1^⊥), by brute force over multiplier and shift."""
    support, rest = sample[:hit], sample[hit:]
    signs = np.where(np.arange(hit) < (1 + imbalance) / 2 * hit, 1.0, -1.0)
    best = math.inf
    for multiplier in np.linspace(0.02, 4, 100):
        if imbalance:
            shifts = np.linspace(0, 6, 301)
            means = np.clip(rest[:, None] - shifts, -multiplier, multiplier).sum(0) + multiplier * signs.sum()
            shift = shifts[np.abs(means).argmin()]
            if np.abs(means).min() > 0.02 * len(sample):
                continue
        else:
            shift = 0.0
        nearest = np.clip(rest - shift, -multiplier, multiplier)
        best = min(best, ((support - multiplier * signs) ** 2).sum() + ((rest - nearest) ** 2).sum())
    return best


@pytest.mark.parametrize("imbalance", [0.0, 1.0])
@pytest.mark.parametrize("fraction", [0.1, 0.3])
def test_the_dimension_is_the_mean_squared_distance_to_the_polar_cone(fraction, imbalance):
    size, rng = 1000, np.random.default_rng(0)
    found = [
        cone_distance(rng.standard_normal(size), round(fraction * size), imbalance) / size for _ in range(4)
    ]
    assert abs(np.mean(found) - descent_dimension(fraction, imbalance=imbalance)) < 0.02


def test_known_values_of_the_symmetric_threshold():
    """Donoho & Tanner's weak threshold for the cross-polytope: at undersampling 1/2, ρ_W is 0.3848 (k/n)."""
    # Nullspace form: n = d − r measurements, sparsity k = ε d; δ = 1/2 means r/d = 1/2 and ε = 0.3848 / 2.
    assert l1_threshold(0.5) == pytest.approx(0.1924, abs=5e-4)
    assert adversarial_limit() == pytest.approx(0.239, abs=5e-4)


@given(st.floats(0.02, 0.95), st.floats(0.0, 1.0))
def test_one_sided_noise_is_never_easier_and_all_thresholds_fall_as_the_span_grows(ratio, imbalance):
    here = l1_threshold(ratio, imbalance=imbalance)
    assert 0 < here <= l1_threshold(ratio) + 1e-7
    assert l1_threshold(min(ratio + 0.02, 0.99), imbalance=imbalance) <= here + 1e-7
    assert here < 1 / (1 + imbalance) + 1e-9


@pytest.mark.parametrize("sides", ["both", "one"])
@pytest.mark.parametrize("mean", [False, True])
def test_measured_recovery_breaks_where_the_theory_says(sides, mean):
    generator = torch.Generator().manual_seed(3)
    d, r, p = 400, 80, 24
    design = torch.randn(d, r, generator=generator, dtype=torch.float64)
    if mean:
        design[:, 0] = 1.0
    values = torch.randn(d, p, generator=generator, dtype=torch.float64)
    values = values.abs() if sides == "one" else values
    levels = torch.rand(d, p, generator=generator, dtype=torch.float64)
    threshold = l1_threshold(r / d, imbalance=1.0 if mean and sides == "one" else 0.0)

    def share(fraction):
        noise = torch.where(levels < fraction, values, 0.0)
        return float(((lad(design, noise).residuals - noise).abs().amax(0) < 1e-9).double().mean())

    assert share(threshold - 0.08) > 0.8
    assert share(threshold + 0.08) < 0.2


@pytest.mark.parametrize("ratio", [0.0, 1.0, -1.0, math.nan])
def test_ratios_that_are_none_are_refused(ratio):
    with pytest.raises(InputError, match="ratio"):
        l1_threshold(ratio)
