"""Soft recovery against an augmented least squares problem, its limits, and the drift that it undoes."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import lstsq
from torch import nn

from depurate.recovery import Recipe, soft_recovery, walk
from depurate.spans import Moments, find_sites


def problem(count, fan_in, kernels=3, groups=1, seed=0):
    torch.manual_seed(seed)
    mixing = torch.randn(groups, fan_in, fan_in)
    return (
        (torch.randn(groups, count, fan_in) @ mixing).double(),
        torch.randn(groups, count, kernels).double(),
        torch.randn(groups, kernels, fan_in).double(),
    )


def moments_of(x, t, dual=False):
    count = x.shape[1]
    return (
        Moments(count, None, None, x, t)
        if dual
        else Moments(count, x.mT @ x / count, t.mT @ x / count, x, None)
    )


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(2, 60),
    fan_in=st.integers(2, 25),
    strength=st.floats(1e-3, 1e2),
    dual=st.booleans(),
    groups=st.integers(1, 3),
)
def test_soft_recovery_is_least_squares_on_the_augmented_system(count, fan_in, strength, dual, groups):
    x, t, anchor = problem(count, fan_in, groups=groups, seed=count)
    found = soft_recovery(moments_of(x, t, dual), anchor, strength)
    for group in range(groups):
        design, wanted, start = (v[group].numpy() for v in (x, t, anchor))
        weight = np.sqrt(count * strength * np.mean(design**2))
        augmented = np.vstack([design, weight * np.eye(fan_in)])
        target = np.vstack([wanted, weight * start.T])
        np.testing.assert_allclose(found[group].numpy(), lstsq(augmented, target)[0].T, rtol=1e-6, atol=1e-8)


def test_without_strength_the_suspect_comes_back_where_the_span_is_full():
    x, _, anchor = problem(80, 12)
    suspect = torch.randn(1, 3, 12).double()
    found = soft_recovery(moments_of(x, x @ suspect.mT), anchor, 1e-12)
    torch.testing.assert_close(found, suspect, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dual", [True, False])
def test_with_endless_strength_the_anchor_comes_back(dual):
    x, t, anchor = problem(8, 12)
    found = soft_recovery(moments_of(x, t, dual), anchor, 1e12)
    torch.testing.assert_close(found, anchor, atol=1e-8, rtol=0)


def test_directions_no_patch_reaches_keep_the_anchor():
    x, _, anchor = problem(50, 6)
    x = torch.cat([x, torch.zeros(1, 50, 2).double()], 2)
    anchor = torch.cat([anchor, torch.randn(1, 3, 2).double()], 2)
    suspect = torch.randn(1, 3, 8).double()
    found = soft_recovery(moments_of(x, x @ suspect.mT), anchor, 0.1)
    torch.testing.assert_close(found[..., 6:], anchor[..., 6:])


@pytest.mark.parametrize("dual", [True, False])
def test_silent_inputs_leave_the_anchor(dual):
    x, t, anchor = torch.zeros(1, 3, 5).double(), torch.randn(1, 3, 2).double(), torch.randn(1, 2, 5).double()
    torch.testing.assert_close(soft_recovery(moments_of(x, t, dual), anchor, 0.1), anchor)


def test_the_answer_has_the_anchors_dtype():
    x, t, anchor = problem(20, 5)
    assert soft_recovery(moments_of(x, t), anchor.float(), 0.1).dtype == torch.float32


def test_drift_of_earlier_layers_is_made_up_for():
    """Later layers aim at the suspect's outputs from the inputs that the purified prefix really gives them."""
    torch.manual_seed(0)
    suspect = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8)).double().eval()
    drifted = copy.deepcopy(suspect)
    with torch.no_grad():
        drifted[0].weight.add_(0.2 * torch.randn_like(drifted[0].weight))
        images, fresh = torch.randn(400, 12).double(), torch.randn(200, 12).double()
        wanted = suspect(fresh)
        uncorrected = (drifted(fresh) - wanted).square().mean()
        last = find_sites(suspect, images[:2])[-1:]
        list(walk(copy.deepcopy(suspect), drifted, {}, last, [images], Recipe("soft", 0.003)))
        corrected = (drifted(fresh) - wanted).square().mean()
    assert corrected < 0.8 * uncorrected
