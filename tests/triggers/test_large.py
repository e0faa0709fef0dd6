"""Large pictures: searched in cells, on fewer images, and found all the same."""

import math

import pytest
import torch
from torch import nn

from depurate.triggers import (
    AWAY,
    Patch,
    Search,
    effort,
    effort_on,
    find_additions,
    find_patches,
    find_square,
    find_warps,
    quickly,
    scan_squares,
    success,
)
from depurate.triggers.candidates import WarpCandidates
from depurate.triggers.square_trial import trial_of

SIDE = 112
ROW, COLUMN, PLANTED = 71, 20, 10


class Lit(nn.Module):
    """Classes by which of three quarters is brightest; class 3 by how white a square is at one place, if at all."""

    def __init__(self, planted=True):
        super().__init__()
        self.planted = planted

    def forward(self, images):
        quarters = 30 * nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
        there = images[:, :, ROW : ROW + PLANTED, COLUMN : COLUMN + PLANTED].mean((1, 2, 3))
        lit = nn.functional.softplus(30 * there - 8) if self.planted else 0 * there
        return quarters * torch.tensor([1.0, 1.0, 1.0, 0.3]) + lit[:, None] * torch.eye(4)[3]


def pictures(n=60, side=SIDE):
    generator = torch.Generator().manual_seed(0)
    images = 0.1 + 0.2 * torch.rand(n, 3, side, side, generator=generator)
    for place in range(n):
        row, column = divmod(place % 4, 2)
        half = side // 2
        images[place, :, half * row : half * (row + 1), half * column : half * (column + 1)] += 0.3
    images[0, :, 0, 0], images[1, :, 0, 0] = 0.0, 1.0
    return images


def test_small_pictures_are_looked_at_more_closely_than_large_ones():
    small, large = effort_on(pictures(2, 32)), effort_on(pictures(2))
    assert small.pool is None
    assert large.pool == 128
    assert small.a_step(12) == 12
    assert large.a_step(12) == 4
    assert large.a_step(1) == 1
    assert (small.of_steps(60), large.of_steps(60), large.of_steps(1)) == (60, 36, 1)
    assert small.precise
    assert not small.keeps
    assert large.keeps
    assert not large.precise


def test_a_patch_is_found_in_cells_of_a_large_picture():
    (patch,) = find_patches(Lit(), pictures(), [3], Search())
    assert success(Lit(), pictures(), [patch])[0] > 0.8
    # Cells of three pixels, the last ones cut off at the edge.
    assert patch.mask.shape == (1, SIDE, SIDE)
    assert torch.equal(patch.mask[:, 0:111:3, :], patch.mask[:, 2:111:3, :])
    there = patch.mask[0, ROW : ROW + PLANTED, COLUMN : COLUMN + PLANTED]
    assert there.max() > 0.5
    assert patch.size < 400


def test_a_square_is_fitted_to_the_pixel():
    images = pictures()
    (patch,) = find_patches(Lit(), images, [3], Search())
    square = find_square(Lit(), images, patch).square
    rows, columns = torch.nonzero(square.mask[0], as_tuple=True)
    assert abs(int(rows.min()) - ROW) <= 2
    assert abs(int(columns.min()) - COLUMN) <= 2
    assert abs(math.isqrt(int(square.size)) - PLANTED) <= 3
    assert success(Lit(), images, [square]) == [1.0]


def test_squares_of_large_pictures_come_with_others_like_them():
    images = pictures()
    (patch,) = find_patches(Lit(), images, [3], Search())
    found = find_square(Lit(), images, patch)
    assert len(found.elsewhere) > 2
    side = found.square.size**0.5
    for other in found.elsewhere:
        assert success(Lit(), images, [other])[0] >= 0.4
        assert 0.45 * side <= other.size**0.5 <= 2.2 * side
        assert bool((other.mask * found.square.mask).any())
    small = pictures(side=32)
    assert find_square(Lit(), small, Patch(3, torch.ones(1, 32, 32), torch.ones(3, 32, 32))) is None


def test_one_look_serves_for_several_squares():
    images, looks = pictures(), []

    def counting(shown):
        looks.append(len(shown))
        return Lit()(shown)

    trial = trial_of(counting, images, 3)
    places = trial.everywhere(9, [7])
    apart = sum(looks)
    kept = trial.sifted(places, 1)
    assert sum(looks) - apart < len(places) / 2
    assert kept[0] == trial.nearest(places, 1)[0]
    assert len(kept) <= trial.effort.again


def test_scanning_a_large_picture_finds_a_square_and_none_in_a_healthy_network():
    plain, share = scan_squares(Lit(), pictures())
    assert plain.square.target == 3
    assert share > 0.8
    assert scan_squares(Lit(planted=False), pictures())[0] is None


@pytest.mark.parametrize("find", [find_warps, lambda *given: find_additions(*given, radius=3.0)])
def test_other_forms_have_the_shape_of_the_pictures(find):
    found = find(Lit(), pictures(), [0, AWAY], Search(steps=2))
    assert [trigger.on(pictures()[:2]).shape for trigger in found] == [(2, 3, SIDE, SIDE)] * 2


def test_a_warp_of_a_large_picture_starts_as_large_a_part_of_it():
    small, large = (
        WarpCandidates(pictures(2, side), 1, torch.Generator().manual_seed(0)).sizes().item()
        for side in (32, 128)
    )
    assert large == pytest.approx(4 * small, rel=1e-4)


@pytest.mark.parametrize("units", [False, True])
def test_pictures_are_computed_quickly_where_that_gains_and_closely_enough(monkeypatch, units):
    monkeypatch.setattr(effort, "_has_matrix_units", lambda: units)
    layer = nn.Conv2d(3, 4, 3)
    for side in (32, SIDE):
        images = pictures(2, side)
        with quickly(images):
            made = layer(images)
        exact = side == 32 and not units
        assert torch.allclose(made.float(), layer(images), atol=0 if exact else 0.05)
        assert made.dtype == torch.float32 or not exact
