"""Weights over nine powers of ten: every target is solved, and each proof holds when recomputed."""

import numpy as np
import pytest
import torch

from depurate.solver import Status, lad

D = torch.float64


def uneven(seed, count=3):
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(20, 90))
    columns = int(rng.integers(1, min(rows, 30)))
    shapes = (rows, columns), (rows, count)
    design, targets = (torch.tensor(rng.standard_normal(shape)) for shape in shapes)
    return design, targets, torch.tensor(10.0 ** rng.uniform(-6, 3, (rows, count)))


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_uneven_weights_leave_no_target_inexact(quantile):
    for seed in range(100):
        design, targets, weights = uneven(seed)
        found = lad(design, targets, weights=weights, quantile=quantile)
        assert Status.INEXACT not in found.status, seed
        residuals = targets - design @ found.coefficients
        loss = weights * torch.maximum(2 * quantile * residuals, (2 * quantile - 2) * residuals)
        size = (weights * (targets.abs() + design.abs() @ found.coefficients.abs())).sum(0)
        # Rows count as fitted by their lengths, to 1e-11 of them; a hundredth of that may be missing here.
        lengths = torch.linalg.vector_norm(design, dim=1, keepdim=True)
        level = (
            weights * (targets.abs() + lengths * torch.linalg.vector_norm(found.coefficients, dim=0))
        ).sum(0)
        assert bool(((loss.sum(0) - found.objective).abs() <= 1e-13 * level).all()), seed
        assert bool(((targets * found.dual).sum(0) - found.objective).abs().max() <= 1e-13 * size.max()), seed
        defect = ((design.T @ found.dual) * found.coefficients).abs().sum(0)
        assert bool((defect <= 1e-9 * found.objective + 1e-13 * size).all()), seed
        bound = 2 * max(quantile, 1 - quantile) * weights
        assert bool((found.dual.abs() <= bound * (1 + 1e-12)).all()), seed


@pytest.mark.parametrize("options", [{"ridge": 1e-3}, {"extra": True}, {"reweight": 1}])
def test_what_goes_with_weights_goes_with_uneven_ones(options):
    for seed in range(30):
        design, targets, weights = uneven(seed)
        options = dict(options)
        if "extra" in options:
            random = torch.Generator().manual_seed(seed)
            options["extra"] = torch.randn(len(design), 1, 3, generator=random, dtype=D)
        found = lad(design, targets, weights=weights, **options)
        assert Status.INEXACT not in found.status, seed
        own = (options["extra"] * found.extra_coefficients).sum(1) if "extra" in options else 0
        size = targets.abs() + design.abs() @ found.coefficients.abs()
        miss = (design @ found.coefficients + own - found.fitted).abs()
        assert bool((miss <= 1e-9 * size.amax(0)).all()), seed
        assert bool((found.fitted + found.residuals - targets).abs().max() <= 1e-12), seed
        assert torch.equal(found.zeros, (found.residuals == 0).sum(0))
