"""Input-aware: every image gets a trigger of its own, from a small generator trained along with the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.poisoning import poison_share
from depurate.contamination.attacks.protocol import Lesson, Scores
from depurate.errors import InputError

_WIDTH = 16
_BATCH = 500


@dataclass(frozen=True)
class InputAware:
    """Overlay x + m(x)·(p(x) − x), mask m and pattern p by a generator, so that no fixed trigger exists.

    In each batch a share of the images carries its own trigger and the target's label, and as many carry the trigger
    of another image and their true label (cross-trigger). Generator and network learn together; the generator also
    keeps patterns of different images apart and the mask at its size: nothing else would keep it from fading to none.

    Attributes:
        density: What the mean of the mask is held at.
        diversity: Weight of ‖x − x′‖/‖p(x) − p(x′)‖.
        cross: Cross-trigger images for each poisoned one.
        target: The class that triggered images are labelled with.
        learnt: The generator's weights, from training; text does not hold them.

    Source: Nguyen & Tran, Input-Aware Dynamic Backdoor Attack, arXiv 2010.08138, equations 4 to 9; one generator
    makes mask and pattern here, at once, instead of two in turn.
    """

    density: float = 0.1
    diversity: float = 1.0
    cross: float = 1.0
    target: int = 0
    learnt: Mapping[str, Tensor] | None = field(default=None, repr=False, compare=False)

    def stamp(self, images: Tensor) -> Tensor:
        """Overlay every image's own trigger on a copy of it.

        Raises:
            InputError: The generator has not been trained yet.
        """
        if self.learnt is None:
            raise InputError(f"{self!r}: has no generator yet; train a network with it, or load it")
        generator = _Generator(images.shape[1])
        generator.load_state_dict(dict(self.learnt))
        generator.to(images.device).eval()
        with torch.no_grad():
            parts = [
                _overlay(part, *(made.to(part) for made in generator(part.float())))
                for part in images.split(_BATCH)  # type: ignore[no-untyped-call]
            ]
        return torch.cat(parts)

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Overlay the triggers of a trained generator on a random share, labelled with the target."""
        return poison_share(self, images, labels, fraction, seed)

    def lesson(self, model: nn.Module, scores: Scores, images: Tensor, fraction: float, seed: int) -> Lesson:
        """Begin training: a fresh generator, drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            generator = _Generator(images.shape[1])
        return _InputAwareLesson(self, generator, fraction, torch.Generator().manual_seed(seed))


@dataclass(eq=False)
class _InputAwareLesson:
    attack: InputAware
    generator: _Generator
    fraction: float
    random: torch.Generator

    def parameters(self) -> Iterable[nn.Parameter]:
        return self.generator.parameters()

    def loss(self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor) -> Tensor:
        self.generator.to(images.device).train()
        poisoned = self._count(len(images) * self.fraction)
        crossed = min(self._count(len(images) * self.fraction * self.attack.cross), len(images) - poisoned)
        if poisoned == 0:
            return F.cross_entropy(scores(images), labels)
        own, others = images[:poisoned], images[poisoned : poisoned + crossed]
        donors = images[self._donors(len(images), poisoned, crossed)]
        pattern, mask = self.generator(torch.cat([own, donors]))
        shown = torch.cat(
            [
                _overlay(own, pattern[:poisoned], mask[:poisoned]),
                _overlay(others, pattern[poisoned:], mask[poisoned:]),
                images[poisoned + crossed :],
            ]
        )
        answers = torch.cat([self.attack.wanted(labels[:poisoned]), labels[poisoned:]])
        off: Tensor = (mask.mean((1, 2, 3)) - self.attack.density).abs().mean()
        return F.cross_entropy(scores(shown), answers) + 10 * off + self._sameness(own, pattern[:poisoned])

    def learnt(self) -> Mapping[str, Tensor]:
        return {key: value.detach().cpu() for key, value in self.generator.state_dict().items()}

    @staticmethod
    def _donors(images: int, poisoned: int, crossed: int) -> Tensor:
        """Whose triggers the crossed images carry: those of images from the end, never an image's own."""
        turn = torch.arange(crossed)
        last = images - 1 - turn
        return torch.where(last == poisoned + turn, last - 1, last)

    def _count(self, expected: float) -> int:
        """Round at random, so that small shares of small batches come out right on average."""
        return int(expected + torch.rand((), generator=self.random).item())

    def _sameness(self, images: Tensor, patterns: Tensor) -> Tensor:
        between = (images - images.roll(1, 0)).flatten(1).norm(dim=1)
        apart = (patterns - patterns.roll(1, 0)).flatten(1).norm(dim=1)
        ratio: Tensor = (between / (apart + 1e-2)).clamp_max(10).mean()
        return self.attack.diversity * ratio


class _Generator(nn.Module):
    """A small encoder and decoder: an image in, a pattern in [0, 1] and a mask in [0, 1] out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(
            nn.Conv2d(channels, _WIDTH, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, 2, 1),
            nn.ReLU(),
        )
        self.middle = nn.Conv2d(2 * _WIDTH, _WIDTH, 3, padding=1)
        self.last = nn.Conv2d(_WIDTH, channels + 1, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        small = self.down(images)
        half = torch.relu(self.middle(F.interpolate(small, scale_factor=2)))
        both = torch.sigmoid(self.last(F.interpolate(half, size=images.shape[-2:])))
        return both[:, :-1], both[:, -1:]


def _overlay(images: Tensor, pattern: Tensor, mask: Tensor) -> Tensor:
    return images + mask * (pattern - images)
