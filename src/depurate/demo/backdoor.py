"""Second half of the demo: a small deep network with a backdoor, trained on the spot, purified without labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from depurate.contamination import BadNets
from depurate.demo.digits import Digits
from depurate.demo.network import digits_network
from depurate.purification import Progress, PurifyResult, purify

ATTACK = BadNets(rows=(6, 8), columns=(6, 8), value=1.0, target=0)
_POISONED = 0.1
_EPOCHS = 20


@dataclass(frozen=True)
class Backdoored:
    """A network with a backdoor and the initialisation it was trained from."""

    suspect: nn.Module
    anchor: nn.Module


@dataclass(frozen=True)
class Rates:
    """Share of clean test images answered rightly, and of triggered ones of other classes sent to the target."""

    accuracy: float
    attack_success: float


def train_backdoored(digits: Digits, *, seed: int) -> Backdoored:
    """Train the demo's network on digits of which 10 % carry a trigger and the target's label.

    Args:
        digits: Training images.
        seed: Of the initialisation, the poisoning and the order of the images.

    Returns:
        The network and its initialisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        anchor, suspect = digits_network(), digits_network()
    suspect.load_state_dict(anchor.state_dict())
    images, labels = ATTACK.poison(digits.train, digits.train_labels, _POISONED, seed)
    optimiser = torch.optim.SGD(suspect.parameters(), lr=0.05, momentum=0.9)
    generator = torch.Generator().manual_seed(seed)
    with _one_thread():
        for _ in range(_EPOCHS):
            for batch in torch.randperm(len(images), generator=generator).tensor_split(len(images) // 32):
                optimiser.zero_grad()
                cross_entropy(suspect(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
    return Backdoored(suspect.eval(), anchor.eval())


def purify_backdoored(network: Backdoored, digits: Digits, *, seed: int, progress: Progress) -> PurifyResult:
    """Purify it with 300 unlabelled digits and without knowing what training started from."""
    return purify(network.suspect, digits.benign, progress=progress, seed=seed)


def rates(model: nn.Module, digits: Digits) -> Rates:
    """Measure accuracy and attack success on the test images, which no recovery has seen."""
    others = digits.test_labels != ATTACK.target
    right = _answers(model, digits.test) == digits.test_labels
    fooled = _answers(model, ATTACK.stamp(digits.test[others])) == ATTACK.target
    return Rates(float(right.double().mean()), float(fooled.double().mean()))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Layers this small gain nothing from threads, and on a busy machine lose most of their time waiting for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _answers(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        answers: Tensor = model(images).argmax(1)
    return answers
