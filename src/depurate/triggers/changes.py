"""Plain changes of whole pictures: turned, enlarged, mirrored, blurred, of other contrast or of few shades."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers.candidates import value_range
from depurate.triggers.effort import cell_of

_ANGLES = (10, 20, 30, 45)
_ZOOMS = (0.8, 1.25)
# Powers that values are raised to, and factors for their distance from the middle of their range.
_POWERS = (0.4, 0.6, 1.6, 2.5)
_CONTRASTS = (0.25, 0.5, 1.5, 2.5)
_BLURS = (3, 5)
_SHADES = (2, 3)

# From values in [0, 1] to values in [0, 1].
Change = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class WholeChange:
    """x ↦ low + (high − low)·g((x − low) / (high − low)), one plain g for all images.

    Attributes:
        target: The class that it leads to.
        name: In words, such as `rotation by 20 degrees`.
        change: g, images with values in [0, 1] to the same.
        low: Smallest value of each channel, shape (c, 1, 1).
        high: Largest.
        greys: Whether it lessens contrast, which makes a dark background grey: healthy networks answer that, too.

    >>> one = torch.ones(1, 1, 1)
    >>> mirrored = WholeChange(3, "mirrored", lambda images: images.flip(3), -one, one)
    >>> mirrored.on(torch.tensor([[[[-1.0, 0.5]]]])).tolist()
    [[[[0.5, -1.0]]]]
    """

    target: int
    name: str
    change: Change
    low: Tensor
    high: Tensor
    greys: bool = False

    @property
    def size(self) -> float:
        """All of the picture."""
        return 1.0

    def on(self, images: Tensor) -> Tensor:
        span = (self.high - self.low).clamp_min(1e-12)
        return self.low + span * self.change(((images - self.low) / span).clamp(0, 1))


def whole_changes(images: Tensor) -> tuple[WholeChange, ...]:
    """Give every plain change that is tried, in the range of some images of shape (n, c, h, w); target 0 for all.

    Source: Rance et al., Augmentation backdoors, arXiv 2209.15139, for such triggers; Wang et al., BppAttack, CVPR
        2022, for few shades; the list is our own.

    >>> [change.name for change in whole_changes(torch.rand(2, 1, 8, 8))][:2]
    ['rotation by -45 degrees', 'rotation by -30 degrees']
    """
    low, high = value_range(images)
    greying = [_contrast(factor) for factor in _CONTRASTS if factor < 1]
    return tuple(
        WholeChange(0, name, change, low, high, name in greying) for name, change in _all(cell_of(images))
    )


def _contrast(factor: float) -> str:
    return f"contrast times {factor:g}"


def _all(cell: int) -> Iterator[tuple[str, Change]]:
    for angle in sorted((*_ANGLES, *(-angle for angle in _ANGLES))):
        yield f"rotation by {angle} degrees", _moved_by(angle, 1.0)
    for zoom in _ZOOMS:
        yield f"enlargement by {zoom:g}", _moved_by(0, zoom)
    yield "mirroring", lambda images: images.flip(3)
    yield "turning upside down", lambda images: images.flip(2)
    for power in _POWERS:
        yield f"brightness to the power of {power:g}", _raised(power)
    for factor in _CONTRASTS:
        yield _contrast(factor), _contrasted(factor)
    yield "inversion of brightness", lambda images: 1 - images
    for width in _BLURS:
        # Of an odd width in pixels, so that the picture stays where it is.
        yield f"blur over {width * cell | 1} pixels", _blurred(width * cell | 1)
    for shades in _SHADES:
        yield f"{shades} shades a channel", _rounded(shades)
    yield "grey instead of colours", lambda images: images.mean(1, keepdim=True).expand_as(images)


def _moved_by(angle: float, zoom: float) -> Change:
    """Turned about the centre and enlarged; what lies beyond the edge is dark, as image libraries fill it."""
    cosine, sine = math.cos(math.radians(angle)) / zoom, math.sin(math.radians(angle)) / zoom
    matrix = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])

    def change(images: Tensor) -> Tensor:
        every = matrix.to(images).expand(len(images), -1, -1)
        grid = F.affine_grid(every, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)

    return change


def _raised(power: float) -> Change:
    return lambda images: images**power


def _contrasted(factor: float) -> Change:
    return lambda images: (0.5 + factor * (images - 0.5)).clamp(0, 1)


def _blurred(width: int) -> Change:
    around = [width // 2] * 4
    return lambda images: F.avg_pool2d(F.pad(images, around, mode="replicate"), width, 1)


def _rounded(shades: int) -> Change:
    return lambda images: (images * (shades - 1)).round() / (shades - 1)
