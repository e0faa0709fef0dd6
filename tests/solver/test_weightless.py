"""Rows without weight say nothing, and weights of any common size say the same."""

import pytest
import torch

from depurate.solver import Status, lad
from problems import highs_loss, sparse_noise

D = torch.float64


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("columns", [3, 4])
def test_fewer_rows_of_weight_than_columns_are_met_but_not_uniquely(count, columns):
    design, targets = draw(9, columns), draw(9, 2, seed=1)
    weights = torch.zeros(9, 2, dtype=D)
    weights[:count, 0] = weights[-count:, 1] = 1
    found = lad(design, targets, weights=weights)
    assert found.objective.abs().max() <= 1e-12
    assert bool((found.certified == (count == columns)).all())
    assert Status.INEXACT not in found.status and found.rank == columns
    assert torch.allclose((design @ found.coefficients)[weights > 0], targets[weights > 0])


def test_a_median_of_two_is_not_made_unique_by_rows_without_weight():
    target = torch.tensor([0.0, 1.0, 0.3, 7.0, -4.0], dtype=D)
    weights = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0], dtype=D)
    found = lad(torch.ones(5, 1, dtype=D), target, weights=weights)
    assert found.status == (Status.OPTIMAL,) and found.objective.item() == pytest.approx(1)


@pytest.mark.parametrize("rows", [30, 120])
@pytest.mark.parametrize(
    "options", [{}, {"quantile": 0.3}, {"huber": 0.4}, {"ridge": 0.7}, {"reweight": 1}, {"extra": 2}]
)
def test_each_target_gives_what_its_rows_of_weight_give_alone(rows, options):
    design, _, targets = sparse_noise(rows, 8, 6, 0.6, seed=3)
    weights = torch.rand(rows, 6, dtype=D, generator=torch.Generator().manual_seed(4))
    weights[weights < 0.4] = 0
    weights[:, 3] = weights[:, 1]
    extra = draw(rows, 2, 6, seed=5) if "extra" in options else None
    options = {name: value for name, value in options.items() if name != "extra"}
    found = lad(design, targets, weights=weights, extra=extra, **options)
    assert bool(found.certified.all())
    for place in range(6):
        used = weights[:, place] > 0
        own = None if extra is None else extra[used][:, :, place : place + 1]
        alone = lad(
            design[used],
            targets[used][:, place : place + 1],
            weights=weights[used, place],
            extra=own,
            **options,
        )
        assert torch.allclose(found.coefficients[:, place], alone.coefficients[:, 0], atol=1e-9)
        assert found.objective[place].item() == pytest.approx(alone.objective.item(), rel=1e-10)
        assert found.status[place] == alone.status[0]
        assert bool((found.dual[~used, place] == 0).all())
    own_fit = 0 if extra is None else (extra * found.extra_coefficients).sum(1)
    assert torch.allclose(found.fitted, design @ found.coefficients + own_fit, atol=1e-9)
    assert torch.allclose(found.fitted + found.residuals, targets, atol=1e-12)
    assert torch.equal(found.zeros, (found.residuals == 0).sum(0))


def test_rows_without_weight_that_fit_are_met_exactly_and_the_proof_is_of_all_rows():
    design, clean, targets = sparse_noise(200, 20, 5, 0.2)
    weights = (torch.rand(200, generator=torch.Generator().manual_seed(1)) < 0.7).double()
    found = lad(design, targets, weights=weights)
    assert torch.equal(found.residuals == 0, targets == clean)
    assert torch.equal(found.fitted[found.residuals == 0], targets[found.residuals == 0])
    assert (design.T @ found.dual).abs().max() <= 1e-10
    assert bool((found.dual.abs() <= weights[:, None] * (1 + 1e-12)).all())
    for place in range(5):
        best = highs_loss(design, targets[:, place], weights.numpy(), weights.numpy())
        assert found.objective[place].item() == pytest.approx(best, rel=1e-8)


def test_own_columns_seen_only_by_rows_without_weight_are_not_settled():
    design, target = draw(20, 2), draw(20, 1, seed=1)
    weights, extra = torch.ones(20, dtype=D), torch.zeros(20, 1, 1, dtype=D)
    weights[15:] = 0
    extra[17] = 1
    assert lad(design, target, weights=weights, extra=extra).status == (Status.OPTIMAL,)
    extra[3] = 1
    assert lad(design, target, weights=weights, extra=extra).status == (Status.CERTIFIED,)


def test_a_start_goes_with_rows_without_weight():
    design, _, targets = sparse_noise(120, 60, 4, 1.0)
    weights = (torch.rand(120, 4, generator=torch.Generator().manual_seed(1)) < 0.9).double()
    before = lad(design, targets, weights=weights)
    for start in (before, before.coefficients):
        found = lad(design, targets, weights=weights, start=start)
        assert torch.allclose(found.objective, before.objective, rtol=1e-12)


def test_single_precision_and_flat_targets_may_lack_weights():
    design, target = draw(40, 3).float(), draw(40, seed=1).float()
    weights = torch.ones(40)
    weights[::3] = 0
    found = lad(design, target, weights=weights)
    assert found.fitted.shape == found.dual.shape == (40,) and found.fitted.dtype == torch.float32
    used = weights > 0
    assert found.objective.item() == pytest.approx(lad(design[used], target[used]).objective.item())
    assert lad(design, target[:, None][:, :0], weights=weights).coefficients.shape == (3, 0)


@pytest.mark.parametrize("size", [1e-320, 1e-310, 1e-300, 1e300, 1e306, 1e308])
@pytest.mark.parametrize("options", [{}, {"huber": 0.003}, {"reweight": 1}])
def test_a_common_weight_at_the_ends_of_what_numbers_can_be_changes_no_fit(size, options):
    design, targets = draw(30, 4), draw(30, 2, seed=1) / 100
    usual = lad(design, targets, **options)
    found = lad(design, targets, weights=torch.full((30,), size, dtype=D), **options)
    assert found.status == usual.status
    torch.testing.assert_close(found.coefficients, usual.coefficients, rtol=1e-8, atol=1e-10)
    rough = 1e-2 if size < 1e-307 else 1e-9
    torch.testing.assert_close(found.objective / size, usual.objective, rtol=rough, atol=0)
