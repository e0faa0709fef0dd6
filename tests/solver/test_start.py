"""A start only saves time: whatever is given, the optimum and its proof are those found without."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depurate.errors import InputError
from depurate.solver import Status, lad
from problems import KINDS, problem, sparse_noise


def _same(solution, cold):
    """The same optimum up to 1e-9, each with its proof."""
    assert Status.INEXACT not in solution.status
    scale = cold.objective.abs() + (cold.fitted.abs().amax(0) * 1e-3)
    assert ((solution.objective - cold.objective).abs() <= 1e-9 * scale).all()
    assert (solution.gap <= 1e-9).all()


def _check_proof(design, targets, solution):
    assert (design.T @ solution.dual).abs().max() <= 1e-10 * (1 + design.abs().sum(0).max())
    assert solution.dual.abs().max() <= 1 + 1e-15
    loss = (targets - design @ solution.coefficients).abs().sum(0)
    size = (design.abs() @ solution.coefficients.abs()).sum(0)
    assert ((loss - solution.objective).abs() <= 1e-12 * (1 + size)).all()
    assert torch.allclose((targets * solution.dual).sum(0), solution.objective, rtol=1e-8, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(20, 4), (90, 10), (90, 30), (90, 80), (140, 60)]),
    share=st.sampled_from([0.1, 0.4, 1.0]),
    step=st.sampled_from([0.0, 1e-12, 1e-6, 1e-2, 1.0, 1e6]),
    whole=st.booleans(),
)
def test_a_start_never_changes_the_optimum(seed, shape, share, step, whole):
    design, _, targets = sparse_noise(*shape, 3, share, seed=seed)
    before = lad(design, targets)
    random = torch.Generator().manual_seed(seed)
    moved = targets + step * torch.randn(targets.shape, generator=random, dtype=torch.float64)
    solution = lad(design, moved, start=before if whole else before.coefficients)
    _same(solution, lad(design, moved))
    _check_proof(design, moved, solution)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), large=st.booleans())
def test_a_start_from_other_targets_does_no_harm(kind, seed, large):
    rng = np.random.default_rng(seed)
    rows, columns = (int(rng.integers(64, 100)), int(rng.integers(1, 50))) if large else (20, 5)
    design, y = (torch.tensor(values) for values in problem(kind, rng, rows, columns, 2))
    other = torch.tensor(rng.standard_normal((rows, 2))) * y.abs().max()
    _same(lad(design, y, start=lad(design, other)), lad(design, y))


@pytest.mark.parametrize("method", ["descent", "interior", "complement"])
def test_near_starts_are_taken_up_by_every_method(method):
    design, _, targets = sparse_noise(120, 100, 6, 1.0)
    before = lad(design, targets)
    solution = lad(design, targets * (1 + 1e-7), method=method, start=before)
    assert bool(solution.certified.all())
    assert torch.equal(solution.residuals == 0, before.residuals == 0)
    assert (solution.iterations == 0).all()


def test_trimming_alone_leaves_no_target_out_for_its_start():
    design, clean, targets = sparse_noise(200, 40, 6, 0.15)
    generic = lad(design, clean + 1.0 + sparse_noise(200, 40, 6, 1.0, seed=1)[2])
    assert (generic.zeros == 40).all()
    assert bool(lad(design, targets, method="trimming", start=generic).certified.all())


@pytest.mark.parametrize("shape", [(20, 4), (100, 20), (100, 40), (100, 90)])
@pytest.mark.parametrize("method", ["auto", "interior"])
@pytest.mark.parametrize("size", [1e60, 1e300])
def test_coefficients_out_of_all_proportion_are_not_believed(shape, method, size):
    design, _, targets = sparse_noise(*shape, 4, 1.0)
    before = lad(design, targets)
    solution = lad(design, targets, start=size * before.coefficients, method=method)
    assert bool(solution.certified.all())
    torch.testing.assert_close(solution.objective, before.objective, rtol=1e-9, atol=0)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 1e40])
def test_duals_out_of_their_box_do_no_harm(wrong):
    design, _, targets = sparse_noise(100, 90, 4, 1.0)
    before = lad(design, targets)
    for method in ("descent", "interior", "complement"):
        start = replace(before, dual=before.dual + wrong)
        _same(lad(design, targets, method=method, start=start), before)


def test_one_target_starts_from_one():
    design, _, targets = sparse_noise(80, 30, 1, 1.0)
    before = lad(design, targets[:, 0])
    for start in (before, before.coefficients):
        solution = lad(design, targets[:, 0], start=start)
        assert solution.fitted.shape == (80,)
        torch.testing.assert_close(solution.objective, before.objective, rtol=1e-12, atol=0)


def test_starts_go_with_weights_quantiles_and_reweighting():
    design, _, targets = sparse_noise(150, 60, 5, 0.6)
    weights = 0.5 + torch.rand(150, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    before = lad(design, targets)
    for options in ({"weights": weights}, {"quantile": 0.4}, {"reweight": 2}):
        _same(lad(design, targets, start=before, **options), lad(design, targets, **options))


def test_the_start_is_not_touched():
    design, _, targets = sparse_noise(100, 40, 4, 1.0)
    before = lad(design, targets)
    kept = before.dual.clone(), before.residuals.clone(), before.coefficients.clone()
    lad(design, targets + 1e-3, start=before)
    assert all(map(torch.equal, kept, (before.dual, before.residuals, before.coefficients)))


@pytest.mark.parametrize(
    ("start", "options", "message"),
    [
        (torch.ones(3, 2), {}, r"start: coefficients of shape \(3, 2\); expected \(2, 1\)"),
        (torch.tensor([1.0, float("nan")]), {}, "start: expected finite"),
        (torch.ones(2), {"huber": 1.0}, "start: not together"),
        (torch.ones(2), {"ridge": 1.0}, "start: not together"),
        (torch.ones(2), {"extra": torch.ones(4, 1, 1)}, "start: not together"),
        (lad(torch.ones(5, 2), torch.ones(5)), {}, "start: residuals of 5 rows; expected 4"),
        (
            replace(lad(torch.ones(4, 2), torch.ones(4)), dual=torch.ones(4, 3)),
            {},
            r"start: residuals \(4, 1\), dual \(4, 3\)",
        ),
    ],
)
def test_bad_starts_are_named(start, options, message):
    with pytest.raises(InputError, match=message):
        lad(torch.ones(4, 2), torch.ones(4), start=start, **options)
