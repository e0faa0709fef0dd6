"""Square equations by factors and by rows exchanged, against dense solves in double precision."""

import pytest
import torch
from torch.testing import assert_close

from depurate.solver._equations import exchange, factor, solve

ROWS, SIZE, COUNT = 90, 40, 5


def _vertices():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(ROWS, SIZE, generator=generator, dtype=torch.float64)).Q
    order = torch.stack([torch.randperm(ROWS, generator=generator) for _ in range(COUNT)])
    right = torch.randn(COUNT, SIZE, generator=generator, dtype=torch.float64) * 1e9
    return basis, order, right


def _check(equations, square, right, factored=None):
    # The factors are in single precision: what they lose grows with the conditions of what was factored and is solved.
    conditions = torch.linalg.cond(square) + torch.linalg.cond(square if factored is None else factored)
    worst = 8 * torch.finfo(torch.float32).eps * conditions
    for adjoint in (False, True):
        matrix = square.mT if adjoint else square
        exact = torch.linalg.solve(matrix, right[:, :, None])[:, :, 0]
        found = solve(equations, right, adjoint=adjoint)
        assert ((found - exact).norm(dim=1) <= worst * exact.norm(dim=1)).all()
    part = equations.take(torch.tensor([3, 1]))
    assert_close(solve(part, right[[3, 1]]), solve(equations, right)[[3, 1]], rtol=1e-4, atol=1.0)


def test_factors_solve_and_give_columns_of_the_inverse():
    basis, order, right = _vertices()
    rows = order[:, :SIZE]
    equations = factor(basis.float(), rows)
    assert bool(equations.full.all())
    _check(equations, basis[rows], right)
    place = torch.tensor([[4, 0, 17]]).expand(COUNT, -1)
    columns = torch.linalg.inv(basis[rows]).gather(2, place[:, None].expand(-1, SIZE, -1))
    assert_close(equations.columns(place).double(), columns, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("number", [1, 7, 40])
def test_exchanged_rows_solve_as_a_new_factor_does(number):
    basis, order, right = _vertices()
    rows, place = order[:, :SIZE], torch.arange(number).expand(COUNT, -1)
    old = factor(basis.float(), rows)
    entering = order[:, SIZE : SIZE + number].clone()
    entering[0, 0] = rows[0, 0]  # a row exchanged for itself
    equations = exchange(old, basis.float(), place, entering, old.columns(place))
    assert bool(equations.full.all())
    _check(equations, basis[rows.scatter(1, place, entering)], right, factored=basis[rows])


def test_rows_that_make_a_vertex_singular_are_found_out():
    basis, order, _ = _vertices()
    rows, place = order[:, :SIZE], torch.zeros(COUNT, 1, dtype=torch.int64)
    old = factor(basis.float(), rows)
    entering = order[:, SIZE : SIZE + 1].clone()
    entering[2] = rows[2, 5]
    equations = exchange(old, basis.float(), place, entering, old.columns(place))
    assert equations.full.tolist() == [True, True, False, True, True]
    twice = rows.clone()
    twice[1, 0] = twice[1, 9]
    assert factor(basis.float(), twice).full.tolist() == [True, False, True, True, True]
