"""Refit and evidence: against brute-force deletion of rows, and the structures that fool a count of rows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depurate import lad
from depurate.recovery.refit import refit


def fitted_rows_confirm_each_other(design, zero):
    """Every row of the set can be deleted without loss of rank (zero rows count for nothing)."""
    rows = design[zero]
    rank = int(torch.linalg.matrix_rank(design))
    if int(zero.sum()) <= rank or int(torch.linalg.matrix_rank(rows)) < rank:
        return False
    keep = ~torch.eye(len(rows), dtype=torch.bool)
    return all(int(torch.linalg.matrix_rank(rows[kept])) == rank for kept in keep)


def largest_leverage(rows):
    left, sizes, _ = torch.linalg.svd(rows, full_matrices=False)
    return float(left[:, sizes > 1e-9 * sizes[0]].square().sum(1).max())


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(3, 14),
    columns=st.integers(1, 4),
    sparsity=st.floats(0, 0.8),
    hits=st.floats(0, 0.6),
    seed=st.integers(0, 10_000),
)
def test_confirmed_means_that_any_one_row_can_be_spared(rows, columns, sparsity, hits, seed):
    generator = torch.Generator().manual_seed(seed)
    design = torch.randint(-3, 4, (rows, columns), generator=generator).double()
    design[torch.rand(rows, columns, generator=generator) < sparsity] = 0.0
    clean = design @ torch.randn(columns, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    hit = torch.rand(rows, 3, generator=generator) < hits
    solution = lad(design, clean + hit * noise)
    if solution.rank == 0:
        return
    found = refit(design, clean + hit * noise, solution)
    for target in range(3):
        zero = solution.residuals[:, target] == 0
        confirm = fitted_rows_confirm_each_other(design, zero)
        assert confirm or not found.confirmed[target]
        # A row that the others confirm by a thread (leverage of nearly 1) is turned down; all else is not.
        assert found.confirmed[target] or not (confirm and largest_leverage(design[zero]) < 0.99)
        if found.confirmed[target]:
            assert not bool(hit[zero, target].any())
            torch.testing.assert_close(found.fitted[:, target], clean[:, target], rtol=1e-10, atol=1e-11)


def test_rows_that_only_confirm_one_another_do_not_confirm_the_rest():
    # Rows 0 to 2 agree on the first coefficient; the second is fitted to one row alone.
    design = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1], [0, 2]]).double()
    targets = torch.tensor([[1.0], [1], [1], [5], [3]]).double()
    solution = lad(design, targets)
    assert int(solution.zeros) > solution.rank
    assert not bool(refit(design, targets, solution).confirmed)


@pytest.mark.parametrize("size", [1.0, 1e6, 1e12])
def test_the_fit_keeps_its_digits_under_huge_noise(size):
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(60, 5, generator=generator, dtype=torch.float64)
    clean = 1e-3 * design @ torch.randn(5, 4, generator=generator, dtype=torch.float64)
    noise = torch.zeros_like(clean)
    noise[:10] = size * torch.randn(10, 4, generator=generator, dtype=torch.float64)
    solution = lad(design, clean + noise)
    found = refit(design, clean + noise, solution)
    assert bool(found.confirmed.all())
    assert float((found.fitted - clean).norm() / clean.norm()) < 1e-13


def test_a_design_of_zeros_leaves_everything_to_the_solution():
    targets = torch.tensor([[0.0], [2.0]]).double()
    design = torch.zeros(2, 1).double()
    solution = lad(design, targets)
    assert torch.equal(refit(design, targets, solution).fitted, solution.fitted)
