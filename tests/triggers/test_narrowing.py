"""Of many classes those are searched that a short change of every image comes nearest to."""

import pytest
import torch
from torch import nn

from depurate.triggers import likeliest, narrowing

CLASSES = 40


class Corner(nn.Module):
    """A class for each of forty parts of a picture by how bright it is, and one more short cut: a dark corner."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, images):
        scores = images.flatten(1)[:, :CLASSES]
        dark = 1 - images[:, 0, -1, -1]
        return 5 * scores + 20 * dark[:, None] * torch.eye(CLASSES)[self.target]


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    images = 0.6 + 0.4 * torch.rand(64, 1, 8, 8, generator=generator)
    images[0, 0, 0, 0], images[:, :, -1, -1] = 0.0, 1.0
    return images


@pytest.mark.parametrize("target", [0, 17, 39])
def test_the_class_with_a_short_cut_is_among_twelve_of_many(images, target):
    chosen = likeliest(Corner(target), images, CLASSES, 0)
    assert chosen[0] == target
    assert len(set(chosen)) == 12


def test_of_large_pictures_only_classes_are_ranked_that_images_are_led_to(images, monkeypatch):
    monkeypatch.setattr(narrowing, "_NUMBERS", 20 * images[0].numel())
    ranked = []
    found = narrowing.find_additions

    def spy(score, images, classes, search, radius):
        ranked.extend(classes)
        return found(score, images, classes, search, radius)

    monkeypatch.setattr(narrowing, "find_additions", spy)
    assert likeliest(Corner(17), images, CLASSES, 0)[0] == 17
    assert 12 <= len(ranked) <= 20


def test_a_network_that_answers_one_class_to_everything_is_no_obstacle(images):
    def constant(images):
        return images.mean((1, 2, 3))[:, None] * 0 + torch.eye(CLASSES)[3]

    assert 3 in likeliest(constant, images, CLASSES, 0)
