"""Adversarial perturbations: against the closed form for linear scores, their lengths, ranges and goals."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from depurate.triggers import AWAY, Adversarial, adversarial_to

LOW, HIGH = torch.zeros(2, 1, 1), torch.tensor([[[1.0]], [[2.0]]])


def linear(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(32, classes)).double()


def pictures(many=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(many, 2, 4, 4, generator=generator, dtype=torch.float64) * HIGH


def lengths(shown, images):
    return ((shown - images) / (HIGH - LOW)).flatten(1).norm(dim=1)


def test_of_two_classes_with_linear_scores_it_is_the_slope_itself():
    net, images = linear(classes=2), 0.5 * torch.ones(5, 2, 4, 4, dtype=torch.float64) * HIGH
    shown = Adversarial(1, net, LOW, HIGH, 0.4).on(images)
    slope = (net[1].weight[1] - net[1].weight[0]).detach().view(2, 4, 4) * HIGH
    radii = 0.4 * (torch.arange(5) + 0.5) / 5
    expected = images + HIGH * slope / slope.norm() * radii.view(-1, 1, 1, 1)
    torch.testing.assert_close(shown, expected)


@given(st.integers(0, 1000), st.floats(0.01, 5), st.integers(1, 30))
def test_it_stays_in_the_range_and_within_lengths_spread_evenly(seed, size, many):
    images = pictures(many, seed)
    shown = Adversarial(0, linear(seed), LOW, HIGH, size).on(images)
    assert ((shown >= LOW) & (shown <= HIGH)).all()
    radii = size * (torch.arange(many).double() + 0.5) / many
    assert (lengths(shown, images) <= radii + 1e-9).all()


@pytest.mark.parametrize("goal", [0, 1, 2, AWAY])
def test_it_reaches_its_goal(goal):
    net, images = linear(), pictures()
    own = net(images).argmax(1)
    answers = net(Adversarial(goal, net, LOW, HIGH, 8.0).on(images)).argmax(1)
    assert (answers != own if goal == AWAY else answers == goal)[10:].all()
    assert torch.equal(images, pictures())


def test_a_network_that_answers_nan_leaves_images_as_they_are():
    images = pictures()
    shown = Adversarial(0, lambda some: some.flatten(1) * torch.nan, LOW, HIGH, 1.0).on(images)
    assert torch.equal(shown, images)


def test_many_images_are_perturbed_in_parts_of_their_own_lengths():
    net, images = linear(), pictures().repeat(1, 1, 64, 64)[:, :, :200, :200]
    score = lambda some: net(some[:, :, :4, :4])  # noqa: E731
    large = torch.cat([images] * 4)  # too many for one part
    shown = Adversarial(1, score, LOW, HIGH, 0.2).on(large)
    some = Adversarial(1, score, LOW, HIGH, 0.2)._perturbed(
        large[-1:], torch.tensor(0.2 * 79.5 / 80).view(1, 1, 1, 1)
    )
    torch.testing.assert_close(shown[-1:], some)


def test_one_is_made_for_each_goal_and_longer_in_larger_pictures():
    first, second = adversarial_to(linear(), pictures(), [2, AWAY])
    assert (first.target, second.target, first.size) == (2, AWAY, 2.0)
    assert adversarial_to(linear(), torch.rand(2, 3, 224, 224), [0])[0].size == 14.0
    assert first.low.shape == (2, 1, 1)
    assert (first.high > first.low).all()
