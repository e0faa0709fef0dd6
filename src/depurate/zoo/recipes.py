"""How each network of the zoo is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent on cross-entropy.

    Attributes:
        epochs: Passes over the training images.
        batch: Images a step.
        rate: Learning rate; its maximum where it follows one cycle.
        momentum: Of Nesterov's kind where the rate follows one cycle.
        decay: Weight decay.
        one_cycle: Whether the rate rises to `rate` and falls again, or stays.
        flips: Whether images are mirrored at random.
        crops: Pixels that images are shifted by at most, at random.
        images: Training images used, the first so many; None for all.
        precision: Of the products in the network, `float32` or `bfloat16`; weights and sums stay in float32.
    """

    epochs: int
    batch: int
    rate: float
    momentum: float = 0.9
    decay: float = 0.0
    one_cycle: bool = False
    flips: bool = False
    crops: int = 0
    images: int | None = None
    precision: str = "float32"


RECIPES: Mapping[str, Recipe] = {
    "lenet": Recipe(epochs=3, batch=64, rate=0.05, images=20_000),
    "resnet14": Recipe(epochs=8, batch=128, rate=0.2, decay=5e-4, one_cycle=True, flips=True),
    "preact_resnet18": Recipe(
        epochs=10, batch=256, rate=0.1, decay=5e-4, one_cycle=True, flips=True, crops=4
    ),
}
"""One a network: a minute and a quarter of an hour on one core; half a minute on a GPU for the last."""
