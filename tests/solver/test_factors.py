"""Factors of batches against the matrices themselves, with one thread and with several."""

import pytest
import torch
from torch.testing import assert_close

from depurate.solver import lad
from depurate.solver._factors import inverses, lu_factors


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [5, 160, 240])
def test_batches_are_factored_rightly_whatever_the_threads(threads, size):
    torch.set_num_threads(threads)
    square = torch.randn(3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    factors, swaps, info = lu_factors(square)
    assert not info.any()
    right = torch.ones(3, size, 1, dtype=torch.float64)
    assert_close(square @ torch.linalg.lu_solve(factors, swaps, right), right, rtol=0, atol=1e-8)
    adjoint = torch.linalg.lu_solve(factors, swaps, right, adjoint=True)
    assert_close(square.mT @ adjoint, right, rtol=0, atol=1e-8)
    inverse, info = inverses(square)
    assert not info.any()
    assert_close(square @ inverse, torch.eye(size, dtype=torch.float64).expand_as(square), rtol=0, atol=1e-8)


def test_a_singular_matrix_is_said_to_be_one_of_several():
    torch.set_num_threads(2)
    square = torch.eye(4).repeat(2, 1, 1)
    square[1, 2] = 0
    assert lu_factors(square)[2].bool().tolist() == [False, True]
    assert inverses(square)[1].bool().tolist() == [False, True]


def test_generic_targets_are_solved_alike_with_one_thread_and_two():
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(420, 180, generator=generator, dtype=torch.float64)
    targets = torch.randn(420, 6, generator=generator, dtype=torch.float64)
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(lad(design, targets))
    assert all(bool((each.gap < 1e-9).all()) for each in found)
    one, two = ((targets - each.fitted).abs().sum(0) for each in found)
    assert_close(one, two, rtol=1e-9, atol=0)
