"""Anchors: what decay and growth made of them, and whether they are of any use to a repair."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from depurate.contamination import Gaussian, Sparse
from depurate.recovery import repair_entries
from depurate.recovery.anchors import grown_anchor
from depurate.spans import Moments


@given(st.integers(1, 40), st.integers(0, 1000), st.floats(-3, 3), st.floats(0, 0.9))
def test_the_factor_has_the_least_absolute_error_of_all(entries, seed, factor, share):
    generator = torch.Generator().manual_seed(seed)
    start, noise = (torch.randn(entries, generator=generator, dtype=torch.float64) for _ in range(2))
    hit = torch.rand(entries, generator=generator) < share
    weights = torch.where(hit, torch.nan, factor * start + noise)
    grown = grown_anchor(weights, start, hit)
    if bool(hit.all()):
        assert torch.equal(grown, start)
        return
    good, at = ~hit, int(start.abs().argmax())

    def error(scale):
        return float((weights - scale * start)[good].abs().sum())

    # The optimum passes through an entry.
    best = min(error(ratio) for ratio in (weights / start)[good].tolist())
    assert error(float(grown[at] / start[at])) <= best * (1 + 1e-9) + 1e-12


def test_an_anchor_without_entries_says_nothing():
    nothing = torch.zeros(3)
    assert torch.equal(grown_anchor(torch.ones(3), nothing, nothing.bool()), nothing)


def decayed(left, seed=0, kernels=64, fan_in=120):
    """Kernels of which training left so much of the start, beside an update on smooth patches; and their moments."""
    generator = torch.Generator().manual_seed(seed)
    energy = torch.arange(1, fan_in + 1).float().pow(-0.75)
    patches = torch.randn(2000, fan_in, generator=generator) * energy
    update = torch.randn(kernels, fan_in, generator=generator) * energy
    start = torch.randn(kernels, fan_in, generator=generator)
    clean = left * start + update / update.std()
    seen = Moments(2000, (patches.mT @ patches)[None].double() / 2000, None, patches[None, :1024], None)
    return clean[None], start[None], seen


@pytest.mark.parametrize("left", [1.0, 0.4, 0.1, 3.0])
def test_an_anchor_serves_a_repair_however_much_is_left_of_it_and_never_harms(left):
    clean, start, seen = decayed(left)
    hit = Sparse(0.1, Gaussian(10.0)).apply(clean, 1)

    def error(anchor):
        nothing = torch.zeros_like(clean, dtype=torch.bool)
        return float((repair_entries(hit.values, anchor, seen, nothing).kernels - clean).norm())

    told, true, without = error(start), error(left * start), error(torch.zeros_like(start))
    assert told < 1.05 * min(true, without)
    if left >= 0.4:
        assert told < 0.95 * without
