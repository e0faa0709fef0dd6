"""Huber's loss and a ridge under uneven weights, where interior steps once bounced between the bounds for ever."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from depurate import lad
from depurate.solver import Status

D = torch.float64


def tensor(values):
    return torch.tensor(values, dtype=D)


def objective_of(design, target, weights, quantile, huber, ridge):
    """The documented objective of coefficients, and its gradient."""
    high, low = 2 * quantile, 2 * (1 - quantile)

    def value(coefficients):
        error = target - design @ coefficients
        slope = np.clip(error / huber, -low, high)
        loss = (weights * slope * (error - huber * slope / 2)).sum()
        gradient = ridge * coefficients - design.T @ (weights * slope)
        return loss + ridge * coefficients @ coefficients / 2, gradient

    return value


@pytest.mark.parametrize(
    ("design", "target", "weights", "options"),
    [
        ([[2.0], [-1.0]], [-3.0, -2.0], [1.0, 100.0], {"quantile": 0.1, "huber": 10.0}),
        (
            [[-2.0, 0.0, -1.0], [-2.0, 1.0, 0.0]],
            [-2.051090603082944, 0.0984667296203354],
            [2.0, 3.0],
            {"quantile": 0.99, "huber": 0.001, "ridge": 100.0},
        ),
    ],
)
def test_steps_that_bounced_end_at_the_optimum(design, target, weights, options):
    found = lad(tensor(design), tensor(target), weights=tensor(weights), **options)
    arrays = (np.array(values) for values in (design, target, weights))
    value = objective_of(*arrays, options["quantile"], options["huber"], options.get("ridge", 0.0))
    best = minimize(value, np.zeros(len(design[0])), jac=True, method="BFGS", options={"gtol": 1e-10})
    assert found.status == (Status.CERTIFIED,)
    assert found.objective.item() == pytest.approx(best.fun, rel=1e-9)
    assert found.objective.item() == pytest.approx(value(found.coefficients.numpy())[0], rel=1e-12)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("ridge", [0.0, 0.1, 50.0])
def test_no_target_is_left_inexact(quantile, ridge):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rows, columns = int(rng.integers(2, 8)), int(rng.integers(1, 6))
        design, targets = rng.standard_normal((rows, columns)), rng.standard_normal((rows, 60))
        weights, huber = 10.0 ** rng.uniform(-2, 2, (rows, 60)), float(10 ** rng.uniform(-5, 1))
        options = {"quantile": quantile, "huber": huber, "ridge": ridge}
        found = lad(tensor(design), tensor(targets), weights=tensor(weights), **options)
        assert Status.INEXACT not in found.status, seed
        for place in range(60):
            value = objective_of(design, targets[:, place], weights[:, place], **options)
            best = value(found.coefficients[:, place].numpy())[0]
            assert found.objective[place].item() == pytest.approx(best, rel=1e-9, abs=1e-14), seed
