"""What a method could not solve must not look solved, and rounding beyond what was promised costs no certificate."""

import pytest
import torch

from depurate.solver import Status, lad


@pytest.mark.parametrize("method", ["trimming", "descent"])
def test_a_target_no_method_solves_is_inexact(method):
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(200, 80, generator=generator, dtype=torch.float64)
    targets = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    solution = lad(design, targets, method=method, max_iterations=1)
    exact = lad(design, targets)
    for place, status in enumerate(solution.status):
        excess = float(solution.objective[place] / exact.objective[place]) - 1
        assert (status is Status.INEXACT) == (excess > 1e-9)
        assert float(solution.gap[place]) >= excess / (1 + excess) - 1e-9
    torch.testing.assert_close(solution.fitted + solution.residuals, targets)


def test_a_few_rows_rounded_worse_than_promised_count_as_hit():
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(400, 10, generator=generator, dtype=torch.float64)
    clean = design @ torch.randn(10, 1, generator=generator, dtype=torch.float64)
    targets = clean.clone()
    targets[:120] += torch.randn(120, 1, generator=generator, dtype=torch.float64)
    targets[-5:] *= 1 + 3e-10
    solution = lad(design, targets, rounding=1e-11)
    assert bool(solution.certified.all())
    assert bool((solution.residuals[-5:] != 0).all())
    torch.testing.assert_close(solution.fitted, clean, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("uneven", [False, True])
def test_tiny_and_huge_weights_keep_the_proof(scale, uneven):
    generator = torch.Generator().manual_seed(2)
    design = torch.randn(160, 40, generator=generator, dtype=torch.float64)
    targets = torch.randn(160, 4, generator=generator, dtype=torch.float64)
    weights = torch.full((160,), scale, dtype=torch.float64)
    if uneven:
        weights[:30] *= 1e6
    solution = lad(design, targets, weights=weights)
    assert bool(solution.certified.all())
    assert (design.T @ solution.dual).abs().max() <= 1e-10 * solution.dual.abs().max()
