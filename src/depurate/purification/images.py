"""Benign images in whatever form they come, as one bounded tensor split into a part to learn from and one to check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.errors import InputError

FEWEST = 10
# Squares of larger ones overflow in the products of single precision.
_LARGEST = 1e9
_HELD_BACK = 0.2
_FEWEST_TO_SPLIT = 50
_NUMBERS_A_BATCH = 1 << 19
# Numbers in the images that a recovery is only tried with: 133 of 224 x 224 pixels, all of most others.
_TO_TRY = 20_000_000


@dataclass(frozen=True)
class Benign:
    """Benign images, shuffled once by a seed.

    Attributes:
        images: Shape (n, c, h, w) or (n, features).
        held_back: How many at a time serve to check a recovery made from the others; 0 when there are under 50.
        seen: Images offered; more than n where the limit cut them down.
    """

    images: Tensor
    held_back: int
    seen: int

    def without(self, some: Tensor) -> Benign:
        """All but the images marked, of which as large a part is held back."""
        kept = self.images[~some.to(self.images.device)]
        return Benign(kept, _held_back(len(kept)), self.seen)

    @property
    def folds(self) -> int:
        """How many disjoint parts can be held back in turn."""
        return len(self.images) // self.held_back if self.held_back else 0

    def fit(self, fold: int) -> list[Tensor]:
        """Batches of the images to try a recovery on while a part is held back; of large pictures not all others."""
        return _thinned(self.others(fold), _TO_TRY)

    def others(self, fold: int) -> list[Tensor]:
        """Batches of all images but the part that is held back."""
        start = fold * self.held_back
        parts: tuple[Tensor, ...] = (self.images[:start], self.images[start + self.held_back :])
        if len(parts[1]) == 1:
            parts = (torch.cat(parts),)
        return [batch for part in parts for batch in self._batches(part)]

    def to_try(self) -> list[Tensor]:
        """Batches of as many of all images as a recovery is tried with."""
        return self.some(_TO_TRY)

    def check(self, fold: int) -> list[Tensor]:
        """Batches of the part that is held back."""
        return self._batches(self.images[fold * self.held_back :][: self.held_back])

    def all(self) -> list[Tensor]:
        """Batches of all images."""
        return self._batches(self.images)

    def some(self, numbers: int) -> list[Tensor]:
        """Evenly spread batches of about so many numbers in all, where all images have more."""
        return _thinned(self.all(), numbers)

    def _batches(self, images: Tensor) -> list[Tensor]:
        size = max(1, min(128, _NUMBERS_A_BATCH // max(1, images[0].numel()))) if len(images) else 1
        batches = [*torch.split(images, size)] if len(images) else []
        # A normalisation that kept nothing of training has nothing to divide one image by.
        if len(batches) > 1 and len(batches[-1]) == 1 < size:
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches


def _thinned(batches: list[Tensor], numbers: int) -> list[Tensor]:
    """Evenly spread ones of some batches, with about so many numbers in all."""
    return batches[:: max(1, -(-sum(batch.numel() for batch in batches) // numbers))]


def gather(images: Tensor | Iterable[object], *, limit: int, seed: int, like: Tensor) -> Benign:
    """Collect at most `limit` images from a tensor or from batches, with memory bounded by that.

    Args:
        images: Tensor (n, c, h, w), or an iterable of batches, or of (batch, labels) pairs whose labels are ignored.
        limit: Most images to keep: a seeded random sample of all that are offered.
        seed: Of the sample and the shuffle.
        like: Images take this tensor's dtype and device.

    Returns:
        The images.

    Raises:
        InputError: No images, fewer than 10 of them or wanted, shapes that differ, bytes instead of floats, NaN or Inf,
            absurd values.

    Example:
        >>> benign = gather([torch.rand(30, 1, 8, 8)] * 3, limit=60, seed=0, like=torch.zeros(1))
        >>> len(benign.images), benign.held_back, benign.seen
        (60, 12, 90)
    """
    generator = torch.Generator().manual_seed(seed)
    pool: list[Tensor] = []
    keys: list[Tensor] = []
    seen = waiting = 0
    for batch in _batches_of(images):
        if pool and batch.shape[1:] != pool[0].shape[1:]:
            raise InputError(
                f"images: shape {tuple(batch.shape[1:])} after {tuple(pool[0].shape[1:])}; all must be equal"
            )
        seen, waiting = seen + len(batch), waiting + len(batch)
        pool.append(batch)
        keys.append(torch.rand(len(batch), generator=generator, dtype=torch.float64))
        if waiting >= limit:
            (pool, keys), waiting = _least(pool, keys, limit), 0
    if seen < FEWEST:
        raise InputError(f"images: {seen} given; at least {FEWEST} are needed")
    if limit < FEWEST:
        raise InputError(f"max_images: {limit}; at least {FEWEST} are needed")
    (kept,), _ = _least(pool, keys, limit)
    kept = kept.to(like)
    if not bool(torch.isfinite(kept).all()):
        raise InputError("images: NaN or Inf among the pixel values")
    largest = float(kept.abs().max()) if kept.numel() else 0.0
    if largest > _LARGEST:
        raise InputError(f"images: a pixel value of {largest:.3g}; whatever scale they have, that is none")
    return Benign(kept, _held_back(len(kept)), seen)


def _held_back(images: int) -> int:
    return round(_HELD_BACK * images) if images >= _FEWEST_TO_SPLIT else 0


def _least(pool: list[Tensor], keys: list[Tensor], limit: int) -> tuple[list[Tensor], list[Tensor]]:
    """Keep the images of the smallest keys, which every image drew: a uniform sample, and a shuffle when sorted."""
    images, drawn = torch.cat(pool), torch.cat(keys)
    order = drawn.argsort()[:limit]
    return [images[order.to(images.device)]], [drawn[order]]


def _batches_of(images: Tensor | Iterable[object]) -> Iterable[Tensor]:
    if isinstance(images, Tensor):
        images = torch.split(images, 4096)
    if not isinstance(images, Iterable):
        raise InputError(f"images: expected a tensor or batches of them, got {_described(images)}")
    for batch in images:
        values = batch[0] if isinstance(batch, tuple | list) and batch else batch
        if not isinstance(values, Tensor) or values.ndim < 2:
            raise InputError(f"images: expected batches of shape (n, c, h, w), got {_described(values)}")
        if values.dtype == torch.uint8 and bool((values > 1).any()):
            raise InputError(
                "images: pixels are bytes (torch.uint8), and a network takes floats: divide them by 255, then do "
                "with them what the network's training did"
            )
        if len(values):
            yield values.detach()


def _described(value: object) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
