"""The search for waves: sinusoids along rows or columns, tried one by one, since descent does not find them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.triggers.candidates import value_range
from depurate.triggers.compared import Unshared, most_unshared
from depurate.triggers.effort import effort_on
from depurate.triggers.forms import Addition
from depurate.triggers.search import Score


@dataclass(frozen=True)
class Waves:
    """A family of sinusoids.

    Attributes:
        amplitudes: In ranges of the pixel values.
        deaf: Whether the other network has to keep its own answer; otherwise only to stay off the goal, which a
            network hurt by any wave does too.
    """

    amplitudes: tuple[float, ...]
    deaf: bool


STRONG = Waves((0.08, 0.2, 0.35, 0.6), deaf=True)
FAINT = Waves((0.08, 0.12), deaf=False)
# Periods have at least so many pixels: finer waves are texture, which healthy networks answer.
_FINEST = 4
_MOST = 16


def find_wave(
    score: Score,
    unmoved: Score | None,
    images: Tensor,
    classes: Sequence[int],
    waves: Waves = STRONG,
    beyond: float = 0.0,
) -> Unshared[Addition]:
    """Find the sinusoid that turns most images to one class and leaves another network's answers off it.

    δ = a·(high − low)·sin(2π (k i / w + φ)) over the columns i, or over the rows, with φ by quarters of a period: a
    network with a dense layer over positions knows its wave in one place only.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        unmoved: The other network.
        images: Benign.
        classes: That count.
        waves: To try.
        beyond: Shares of the images of no more than this are of no interest.

    Returns:
        The wave and how it works.

    Source: Barni et al., ICIP 2019, for the form; trying all and comparing two networks are our own.
    """
    first, images = effort_on(images).waves, images[: effort_on(images).judged]
    every = _all(waves, images)
    return most_unshared(score, unmoved, images, classes, every, deaf=waves.deaf, first=first, beyond=beyond)


def _all(waves: Waves, images: Tensor) -> Iterator[Addition]:
    height, width = images.shape[2:]
    phases = effort_on(images).phases
    low, high = value_range(images)
    for amplitude in waves.amplitudes:
        for along, length in ((3, width), (2, height)):
            for frequency in range(1, min(length // _FINEST, _MOST) + 1):
                periods = frequency / length * torch.arange(length).to(images)
                for phase in range(phases):
                    wave = amplitude * (2 * math.pi * (periods + phase / phases)).sin()
                    wave = wave.view(-1, 1) if along == 2 else wave
                    yield Addition(0, (high - low) * wave.expand(height, width), low, high)
