"""The search for waves: sinusoids along rows or columns, tried one by one, since descent does not find them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from depurate.triggers.candidates import value_range
from depurate.triggers.forms import Addition
from depurate.triggers.search import Score, success

# Amplitudes in ranges of the pixel values, and at most so many frequencies: coarser than any one pixel.
_AMPLITUDES = (0.08, 0.2, 0.6)
_FREQUENCIES = 16
_IMAGES = 24


def find_wave(
    score: Score, unmoved: Score, images: Tensor, classes: Sequence[int]
) -> tuple[Addition | None, float]:
    """Find the sinusoid that turns most images to one class and leaves another network's answers off it.

    δ = a·(high − low)·sin(2π k i / w) over the columns i, or over the rows.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        unmoved: The other network.
        images: Benign.
        classes: That count.

    Returns:
        The wave (None where none turns anything) and the share of the images of other classes that it turns.

    Source: Barni et al., ICIP 2019, for the form; trying all and comparing two networks are our own.
    """
    images = images[:_IMAGES]
    low, high = value_range(images)
    best: Addition | None = None
    share = 0.0
    with torch.no_grad():
        own = score(images).argmax(1)
        for shift in _waves(images, low, high):
            turned = score(Addition(0, shift, low, high).on(images)).argmax(1)
            target = _most(turned[turned != own], classes)
            if target is None or (turned == target).double().mean() <= share:
                continue
            wave = Addition(target, shift, low, high)
            (works,) = success(score, images, [wave], unmoved=unmoved)
            if works > share:
                best, share = wave, works
    return best, share


def _most(answers: Tensor, classes: Sequence[int]) -> int | None:
    """The class most often among answers, or None."""
    kept = answers[torch.isin(answers, torch.tensor(list(classes), device=answers.device))]
    return int(kept.mode().values) if len(kept) else None


def _waves(images: Tensor, low: Tensor, high: Tensor) -> Iterator[Tensor]:
    height, width = images.shape[2:]
    for amplitude in _AMPLITUDES:
        for along, length in ((3, width), (2, height)):
            for frequency in range(1, min(length // 2, _FREQUENCIES) + 1):
                angles = 2 * math.pi * frequency / length * torch.arange(length).to(images)
                wave = amplitude * angles.sin().view(-1, 1) if along == 2 else amplitude * angles.sin()
                yield (high - low) * wave.expand(height, width)
