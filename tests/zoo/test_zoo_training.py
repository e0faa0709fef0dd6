"""Training: order of the images, augmentation, and what is left alone."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.poisoning import choose
from depurate.zoo import network
from depurate.zoo.recipes import RECIPES, Recipe
from depurate.zoo.training import augment, train


def test_poisoned_images_do_not_come_first():
    """With one stream for both draws, the first batches hold nothing but poisoned images and training breaks."""
    poisoned = choose(torch.zeros(400), 0.25, seed=3)
    seen = []

    class Watch:
        def parameters(self):
            return ()

        def loss(self, model, scores, images, labels):
            seen.append(labels)
            return F.cross_entropy(scores(images), labels)

        def learnt(self):
            return {}

    labels = torch.zeros(400, dtype=torch.int64)
    labels[poisoned] = 1
    kind = network("lenet")
    recipe = Recipe(epochs=1, batch=100, rate=0.01)
    train(kind, kind.build(), recipe, torch.rand(400, 1, 28, 28), labels, seed=3, begin=lambda *_: Watch())
    assert sum(len(batch) for batch in seen) == 400
    assert 10 < int(seen[0].sum()) < 45


@pytest.mark.parametrize("name", ["lenet", "resnet14"])
def test_training_changes_a_copy_and_is_decided_by_its_seed(name):
    kind = network(name)
    shape = (1, 28, 28) if name == "lenet" else (3, 32, 32)
    images, labels = torch.rand(16, *shape), torch.arange(16) % 10
    initial = kind.initialise(0)
    before = {key: value.clone() for key, value in initial.state_dict().items()}
    steps = []
    recipe = Recipe(epochs=2, batch=8, rate=0.05, flips=name != "lenet", one_cycle=name != "lenet")
    made = [
        train(
            kind, initial, recipe, images, labels, seed=seed, progress=lambda *step: steps.append(step)
        ).model
        for seed in (1, 1, 2)
    ]
    assert steps[3] == ("training", 4, 4) and not made[0].training
    assert all(torch.equal(before[key], value) for key, value in initial.state_dict().items())
    first, again, other = ([*model.parameters()] for model in made)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[0], before[next(iter(before))])


def test_augmentation_mirrors_and_shifts_whole_images():
    images = torch.arange(1.0, 2 * 2 * 4 * 4 + 1).reshape(2, 2, 4, 4)
    recipe = Recipe(epochs=1, batch=1, rate=1, flips=True, crops=1)
    for seed in range(20):
        moved = augment(images, recipe, torch.Generator().manual_seed(seed))
        for image, found in zip(images, moved, strict=True):
            padded = [F.pad(side, [1] * 4) for side in (image, image.flip(2))]
            windows = [side[:, r : r + 4, c : c + 4] for side in padded for r in range(3) for c in range(3)]
            assert any(torch.equal(found, window) for window in windows)


def test_lenet_follows_its_published_recipe():
    assert RECIPES["lenet"] == Recipe(epochs=3, batch=64, rate=0.05, momentum=0.9, images=20_000)


def test_narrow_products_train_weights_that_stay_wide():
    kind = network("lenet")
    images, labels = torch.rand(16, 1, 28, 28), torch.arange(16) % 10
    initial = kind.initialise(0)
    wide, narrow = (
        train(
            kind, initial, Recipe(epochs=1, batch=8, rate=0.05, precision=precision), images, labels, seed=1
        )
        for precision in ("float32", "bfloat16")
    )
    for a, b, start in zip(*(m.parameters() for m in (wide.model, narrow.model, initial)), strict=True):
        assert b.dtype == torch.float32
        assert 0 < (a - b).norm() < 0.2 * (a - start).norm()
