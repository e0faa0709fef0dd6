"""Problems whose solutions once were called unique, or optimal, and were not."""

import numpy as np
import pytest
import torch

from depurate.paper import undo
from depurate.solver import Status, lad

D = torch.float64


def tensor(values):
    return torch.tensor(values, dtype=D)


def groups(generator):
    """A design of few distinct rows, each repeated: every group is fitted by its own median."""
    size = int(torch.randint(2, 7, (1,), generator=generator))
    which = torch.repeat_interleave(torch.arange(size), torch.randint(2, 40, (size,), generator=generator))
    design = torch.randn(size, size, generator=generator, dtype=D)[which]
    return design, torch.randint(0, 3, (len(which), 20), generator=generator).to(D), which


@pytest.mark.parametrize("options", [{}, {"huber": 1e-6}, {"method": "interior"}, {"method": "complement"}])
def test_of_medians_that_may_move_none_is_called_unique(options):
    generator, told = torch.Generator().manual_seed(0), 0
    for _ in range(60):
        design, targets, which = groups(generator)
        found = lad(design, targets, **options)
        for place in range(targets.shape[1]):
            halves = []
            for group in range(int(which.max()) + 1):
                values = targets[which == group, place].sort().values
                middle = len(values) // 2
                halves.append(len(values) % 2 == 0 and values[middle - 1] != values[middle])
            if any(halves):
                assert not found.unique[place]
                assert found.status[place] is not Status.CERTIFIED
            else:
                told += int(found.unique[place])
    assert told > 0


def test_a_last_pivot_that_is_rounding_shows_no_rank():
    rows = tensor([[-1.47, 0.89, 0.1], [-0.71, 1.73, 0.69], [0.37, -0.91, 2.28]])
    found = lad(rows[[0, 0, 1, 1, 1, 2, 2, 2]], tensor([0.0, 1, 0, 0, 0, 0, 0, 0]))
    assert found.status == (Status.OPTIMAL,)


@pytest.mark.parametrize("power", [24, 26, 30, 33, 36])
def test_a_tie_among_small_weights_is_no_unique_median(power):
    small = 2.0**-power
    found = lad(tensor([[1.0]] * 3), tensor([0.0, 0.5, 1.0]), weights=tensor([1, small, 1 - small]))
    assert not found.unique


@pytest.mark.parametrize("power", [10, 16, 20, 22, 24, 26, 30])
def test_a_tie_between_columns_that_are_nearly_equal_is_no_unique_fit(power):
    h = 2.0**-power
    found = lad(tensor([[3, 3 + h], [2, 2 + h], [0, -3 * h], [1, 1 - 3 * h]]), tensor([3.0, -2, 2, 0]))
    assert not found.unique


def test_small_weights_do_not_hide_a_better_fit():
    design, targets = tensor([[1, 0], [1, 0], [1, -2], [1, -1]]), tensor([2, -3, -1, -3])
    weights = tensor([2.0**-33, 2.0**-34, 3, 2.0**-34])
    found = lad(design, targets, weights=weights)
    # Through the third row and one of the others.
    fits = [torch.linalg.solve(design[[2, row]], targets[[2, row]]) for row in (0, 1, 3)]
    best = min(float((weights * (targets - design @ fit).abs()).sum()) for fit in fits)
    assert float(found.objective) == pytest.approx(best, rel=1e-9)


def test_columns_that_nearly_depend_on_each_other_widen_the_gap():
    rng = np.random.default_rng(0)
    for power, status in ((10, Status.CERTIFIED), (30, Status.INEXACT)):
        design = tensor(rng.standard_normal((40, 5)))
        design[:, 4] = design[:, 0] + 2.0**-power * tensor(rng.standard_normal(40))
        found = lad(design, tensor(rng.standard_normal(40)))
        assert found.status == (status,)
        assert found.gap < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e9, 1e14, 1e20, -1e30])
@pytest.mark.parametrize(
    "options", [{}, {"quantile": 0.3}, {"huber": 0.1}, {"reweight": 2}, {"weighted": True}]
)
def test_a_huge_entry_changes_nothing_but_the_loss(dtype, size, options):
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(100, 10, generator=generator).to(dtype)
    noise = torch.randn(100, 3, generator=generator) * (torch.rand(100, 3, generator=generator) < 0.1)
    targets = design @ torch.randn(10, 3, generator=generator).to(dtype) + noise.to(dtype)
    options = dict(options)
    if options.pop("weighted", False):
        options["weights"] = torch.rand(100, generator=generator).to(dtype)
        options["weights"][4] = 0
    far, huge = targets.clone(), targets.clone()
    far[99], huge[99] = 1e3 * np.sign(size), size
    expected, found = (lad(design, some, **options) for some in (far, huge))
    assert found.status == expected.status
    if "huber" not in options:
        assert torch.equal(found.residuals[:99] == 0, expected.residuals[:99] == 0)
    level = 1e-3 if dtype is torch.float32 else 1e-8
    if "reweight" not in options:
        assert torch.allclose(found.coefficients, expected.coefficients, atol=level)
    assert torch.equal(found.residuals[99], (huge - found.fitted)[99])
    assert bool((found.objective > 0.1 * abs(size)).all()) or "reweight" in options


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_noise_of_any_size_is_undone(dtype):
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(200, 20, generator=generator).to(dtype)
    anchor = torch.randn(200, 3, generator=generator).to(dtype)
    clean = anchor + design @ torch.randn(20, 3, generator=generator).to(dtype) / 10
    for size in (1e12, 1e20, 1e30):
        hit = clean + (torch.rand(200, 3, generator=generator) < 0.1)
        hit[5] = size
        found = undo(design, hit, anchor)
        assert bool(found.certified.all())
        assert torch.allclose(found.weights, clean, atol=1e-5 if dtype is torch.float32 else 1e-12)


def test_a_huge_entry_that_the_fit_goes_through_is_kept():
    design = torch.eye(3, dtype=D)[[0, 0, 0, 0, 1, 1, 2]]
    targets = tensor([1.0, 1, 1, 2, 1e9, 1e9, 1])
    found = lad(design, targets)
    assert found.coefficients.tolist() == pytest.approx([1, 1e9, 1])
    assert found.residuals.abs().sum() == 1


@pytest.mark.parametrize("size", [1e14, 1e20, 1e30])
def test_few_entries_among_zeros_are_not_taken_for_rounding_of_huge_ones(size):
    generator = torch.Generator().manual_seed(0)
    design, targets = torch.randn(200, 3, generator=generator).to(D), torch.zeros(200, dtype=D)
    targets[:2] = 1 + torch.rand(2, generator=generator).to(D)
    targets[2:10] = size * torch.randn(8, generator=generator).to(D)
    found = lad(design, targets)
    assert int(found.zeros) == 190
    assert found.coefficients.abs().max() < 1e-9


@pytest.mark.parametrize("size", [1e13, 1e20])
def test_rows_without_weight_do_not_hide_huge_entries(size):
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(200, 3, generator=generator).to(D)
    targets = design @ tensor([1.0, -2, 3]) + 0.1 * torch.randn(200, generator=generator).to(D)
    weights = torch.ones(200, dtype=D)
    targets[0], weights[40:], targets[40:] = size, 0, size
    found, expected = lad(design, targets, weights=weights), lad(design[:40], targets[:40])
    assert torch.allclose(found.coefficients, expected.coefficients, atol=1e-10)
    assert found.status == expected.status
