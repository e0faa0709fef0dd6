"""Descent alone: generic targets, uneven boxes, more zeros than coefficients, ranks near the number of rows."""

import pytest
import torch

from depurate.solver import lad
from depurate.solver._tableau import Tableau, solve_tableau
from problems import sparse_noise


def _normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("rows", "columns"), [(120, 30), (200, 90), (150, 120), (100, 96)])
@pytest.mark.parametrize("boxes", ["plain", "quantile", "weights of each target"])
def test_descent_agrees_with_the_interior_method(rows, columns, boxes):
    design, targets = _normal(0, rows, columns), _normal(1, rows, 20)
    options = {}
    if boxes == "quantile":
        options["quantile"] = 0.3
    if boxes == "weights of each target":
        options["weights"] = 0.1 + _normal(2, rows, 20).abs()
    found, exact = (lad(design, targets, method=method, **options) for method in ("descent", "interior"))
    solved = found.gap <= 1e-9
    assert int(solved.sum()) >= 18
    assert torch.allclose(found.objective[solved], exact.objective[solved], rtol=1e-10)
    assert bool((found.zeros[solved] == columns).all())
    assert bool(lad(design, targets, **options).certified.all())


def test_descent_proves_fits_with_many_zeros_where_rows_differ_in_leverage():
    design, _, targets = sparse_noise(300, 60, 24, 0.15)
    scale = 10.0 ** torch.linspace(0, 2.5, 300, dtype=torch.float64)[:, None]
    found = lad(design * scale, targets * scale, method="descent")
    exact = lad(design * scale, targets * scale, method="interior")
    many = exact.zeros > 66
    assert int(many.sum()) >= 12
    # The interior method is there for the rest; descent must do most.
    assert 2 * int((found.certified & many).sum()) > int(many.sum())
    assert torch.equal(found.zeros[found.certified], exact.zeros[found.certified])


def test_a_tableau_ends_where_every_dual_is_in_its_box():
    body = _normal(3, 16, 31, 13)
    body[:, -1] *= 0.5
    outer, inner = torch.arange(12, 42).expand(16, -1).clone(), torch.arange(12).expand(16, -1).clone()
    one = torch.ones(1, 1, dtype=torch.float64)
    start = body.clone()
    end = solve_tableau(Tableau(body, outer, inner, one, one, one, one), 200)
    assert bool((end.pull().abs() <= 1 + 1e-4).all())
    # The values of the first columns at the end reproduce the residuals of the rows that stayed outside.
    values = torch.zeros(16, 42, dtype=torch.float64).scatter_(1, end.outer, end.body[:, :-1, -1])
    again = start[:, :-1, -1] + (start[:, :-1, :-1] @ values[:, :12, None])[:, :, 0]
    torch.testing.assert_close(values[:, 12:], again)
