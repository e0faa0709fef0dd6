"""Output weights that stand out: those of a class whose row was tampered with, and no others."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from depurate.recovery import StrongOutputs, limit_outputs, strong_outputs


def classifier(classes, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, classes))
    nn.init.normal_(net[3].weight)
    return net


@given(st.integers(3, 40), st.integers(0, 100), st.floats(1e-3, 1e3))
def test_rows_of_an_untouched_layer_do_not_stand_out_in_whatever_unit(classes, seed, unit):
    net = classifier(classes, seed)
    with torch.no_grad():
        net[3].weight.mul_(unit)
    assert strong_outputs(net, torch.eye(classes)) is None


@pytest.mark.parametrize("classes", [5, 10, 100])
def test_a_row_with_flipped_bits_stands_out(classes):
    net = classifier(classes)
    with torch.no_grad():  # the highest bit of a sixth of the row's 8-bit weights
        step = net[3].weight.abs().max() / 127
        net[3].weight[3, ::6] += 128 * step
    found = strong_outputs(net, torch.eye(classes))
    assert found == StrongOutputs("3", (3,))
    limited, beyond = limit_outputs(net, found)
    assert 0.1 * 256 < beyond < 0.3 * 256
    assert strong_outputs(limited, torch.eye(classes)) is None
    others = [row for row in range(classes) if row != 3]
    assert torch.equal(limited[3].weight[others], net[3].weight[others])
    assert strong_outputs(net, torch.eye(classes)) == found


def test_only_a_dense_layer_with_a_row_a_class_counts():
    assert strong_outputs(nn.Conv2d(1, 10, 3), torch.eye(10)) is None
    assert strong_outputs(nn.Linear(64, 2), torch.eye(2)) is None
    assert strong_outputs(nn.Linear(1, 5), torch.eye(5)) is None
    assert strong_outputs(classifier(10), torch.eye(11)) is None


@pytest.mark.parametrize("known", [20, 50])
def test_rows_that_were_never_trained_make_no_others_stand_out(known):
    net = classifier(known)
    with torch.no_grad():
        net[3].weight[10:] *= 0.3
    scores = torch.eye(known)[torch.arange(100) % 10]
    assert strong_outputs(net, scores) is None
    with torch.no_grad():
        net[3].weight[3, ::4] *= 9
    assert strong_outputs(net, scores) == StrongOutputs("3", (3,))


def test_a_row_that_training_made_wider_as_a_whole_does_not_stand_out():
    net = classifier(10)
    # Most weights of the others are small and some large, those of this row all middling.
    with torch.no_grad():
        others = torch.arange(10) != 3
        net[3].weight[others] = net[3].weight[others].pow(3)
        net[3].weight[3] *= 2 * net[3].weight[others].std()
    assert net[3].weight[3].std() > 1.5 * net[3].weight[others].std(1).median()
    assert strong_outputs(net, torch.eye(10)) is None


def test_fewer_than_three_answers_show_nothing():
    net = classifier(10)
    with torch.no_grad():
        net[3].weight[3, ::4] *= 9
    assert strong_outputs(net, torch.eye(10)[[1, 2, 1]]) is None
