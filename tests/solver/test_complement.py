"""The complement alone: few more rows than columns, noise sparse and not, uneven boxes, and that auto takes it."""

import pytest
import torch

from depurate.errors import InputError
from depurate.solver import Status, lad
from depurate.solver._complement import complement_basis
from problems import highs_loss, sparse_noise


@pytest.mark.parametrize("extra", [1, 2, 12, 40])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_the_complement_agrees_with_highs(extra, share):
    design, _, targets = sparse_noise(90 + extra, 90, 6, share)
    solution = lad(design, targets, method="complement")
    assert set(solution.status) <= {Status.CERTIFIED, Status.OPTIMAL}
    for column in range(6):
        best = highs_loss(design, targets[:, column])
        assert float(solution.objective[column]) == pytest.approx(best, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize("boxes", ["quantile", "weights of each target"])
def test_uneven_boxes_agree_with_the_interior_method(boxes):
    generator = torch.Generator().manual_seed(4)
    design, targets, weights = (
        torch.randn(150, count, generator=generator, dtype=torch.float64) for count in (130, 16, 16)
    )
    options = {"quantile": 0.2} if boxes == "quantile" else {"weights": 0.1 + weights.abs()}
    found, exact = (lad(design, targets, method=method, **options) for method in ("complement", "interior"))
    assert bool(found.certified.all())
    torch.testing.assert_close(found.objective, exact.objective, rtol=1e-10, atol=0)
    torch.testing.assert_close(found.fitted, exact.fitted, rtol=1e-8, atol=1e-8)


def test_noise_sparse_enough_is_undone():
    design, clean, targets = sparse_noise(400, 300, 20, 0.02)
    solution = lad(design, targets, method="complement")
    assert ((solution.fitted - clean).norm(dim=0) <= 1e-12 * clean.norm(dim=0)).all()
    assert bool(solution.certified.all())


def test_auto_gives_what_the_complement_does_where_it_is_small():
    design, _, targets = sparse_noise(200, 180, 8, 1.0)
    found, alone = lad(design, targets), lad(design, targets, method="complement")
    assert torch.equal(found.coefficients, alone.coefficients)
    assert torch.equal(found.iterations, alone.iterations)


def test_a_basis_of_the_complement_is_orthonormal_and_orthogonal():
    basis = torch.linalg.qr(torch.randn(80, 75, generator=torch.Generator().manual_seed(1)).double()).Q
    both = torch.cat([basis, complement_basis(basis)], 1)
    torch.testing.assert_close(both.T @ both, torch.eye(80, dtype=torch.float64), rtol=0, atol=1e-14)


def test_tied_targets_stay_honest():
    generator = torch.Generator().manual_seed(2)
    design = torch.randint(-1, 2, (80, 70), generator=generator).double()
    targets = torch.randint(-3, 4, (80, 6), generator=generator).double()
    solution = lad(design, targets, method="complement")
    for column in range(6):
        best = highs_loss(design, targets[:, column])
        assert float(solution.objective[column]) <= best * (1 + 1e-8)


def test_the_complement_takes_no_ridge():
    with pytest.raises(InputError, match="complement"):
        lad(torch.ones(3, 2), torch.ones(3), method="complement", ridge=1.0)
