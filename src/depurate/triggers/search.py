"""The search for triggers: gradient descent on the image side only, all classes in one batch, no labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers.forms import Addition, Patch

Step = Callable[[int, int], None]
# The share of images a trigger has to turn, and the band in which the price of its size stays as it is.
_WANTED, _BAND = 0.95, 0.1
_SMOOTHING = 0.7


@dataclass(frozen=True)
class Search:
    """How long to search.

    Attributes:
        steps: Gradient steps.
        images: Benign images a step, drawn anew each time.
        rate: Step length of Adam.
        seed: Of the draws.
    """

    steps: int = 60
    images: int = 12
    rate: float = 0.3
    seed: int = 0


def find_patches(
    score: Callable[[Tensor], Tensor],
    images: Tensor,
    classes: Sequence[int],
    search: Search,
    progress: Step | None = None,
) -> tuple[Patch, ...]:
    """Find for each class the smallest patch that makes a network answer it on nearly every image.

    min Σm + (1/c)·CE(f((1 − m) x + m p), class); the price c of a pixel rises while the patch works on 95 % of the
    images and falls when it does not.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        classes: To search for.
        search: How long.
        progress: Called with (steps done, steps in all).

    Returns:
        One patch a class: the smallest that worked on the way, or the last one where none did.

    Source: Wang et al., Neural Cleanse, IEEE S&P 2019; all classes at once and the schedule are our own.
    """
    generator = torch.Generator().manual_seed(search.seed)
    low, high = _range(images)
    count, (channels, height, width) = len(classes), images.shape[1:]
    masks = images.new_zeros(
        count, 1, height, width
    ).requires_grad_()  # half of everything: wide first, then small
    start = 0.4 * torch.randn(count, channels, height, width, generator=generator)
    patterns = start.to(images).requires_grad_()
    moved: list[dict[str, Any]] = [{"params": masks}, {"params": patterns, "lr": 4 * search.rate}]
    adam = torch.optim.Adam(moved, search.rate, (0.5, 0.9))
    wanted = torch.tensor(list(classes), device=images.device)[:, None].expand(count, search.images)
    price = images.new_full((count,), 1e-2)
    works, smallest = images.new_zeros(count), images.new_full((count,), torch.inf)
    best = [
        Patch(target, masks[i].detach().sigmoid(), start[i].to(images)) for i, target in enumerate(classes)
    ]
    for step in range(search.steps):
        drawn = images[_drawn(len(images), search.images, generator)]
        mask, pattern = masks.sigmoid(), low + (high - low) * patterns.sigmoid()
        shown = (1 - mask[:, None]) * drawn + mask[:, None] * pattern[:, None]
        scores = score(shown.flatten(0, 1)).reshape(count, search.images, -1)
        misses = (
            F.cross_entropy(scores.flatten(0, 1), wanted.reshape(-1), reduction="none")
            .view(count, -1)
            .mean(1)
        )
        sizes = mask.flatten(1).sum(1)
        adam.zero_grad()
        (misses + price * sizes).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
        hit = (scores.detach().argmax(2) == wanted).to(works).mean(1)
        works = _SMOOTHING * works + (1 - _SMOOTHING) * hit
        price = torch.where(
            works > _WANTED, price * 1.2, torch.where(works < _WANTED - _BAND, price / 1.2, price)
        )
        price = price.clamp(1e-4, 0.3)
        better = (works >= _WANTED - _BAND / 2) & (sizes.detach() < smallest)
        for i in range(count):
            if better[i] or (step == search.steps - 1 and smallest[i] == torch.inf):
                best[i] = Patch(classes[i], mask[i].detach().clone(), pattern[i].detach().clone())
        smallest = torch.where(better, sizes.detach(), smallest)
        if progress is not None:
            progress(step + 1, search.steps)
    return tuple(best)


def find_additions(
    score: Callable[[Tensor], Tensor], images: Tensor, classes: Sequence[int], search: Search, radius: float
) -> tuple[Addition, ...]:
    """Find for each class the shift of a given length that makes a network answer it most often.

    min CE(f(clip(x + δ)), class) subject to ‖δ/(high − low)‖₂ ≤ radius, by projected gradient descent.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        classes: To search for.
        search: How long.
        radius: Length, in ranges of the images' values.

    Returns:
        One shift a class.

    Source: Moosavi-Dezfooli et al., Universal adversarial perturbations, CVPR 2017 (the kind of perturbation).
    """
    generator = torch.Generator().manual_seed(search.seed)
    low, high = _range(images)
    scale, count = (high - low).clamp_min(1e-12), len(classes)
    shift = images.new_zeros(count, *images.shape[1:])
    momentum = torch.zeros_like(shift)
    wanted = torch.tensor(list(classes), device=images.device).repeat_interleave(search.images)
    for step in range(search.steps):
        drawn = images[_drawn(len(images), search.images, generator)]
        shift.requires_grad_()
        shown = torch.minimum(torch.maximum(drawn + (scale * shift)[:, None], low), high)
        (slope,) = torch.autograd.grad(
            F.cross_entropy(score(shown.flatten(0, 1)), wanted, reduction="sum"), shift
        )
        momentum = 0.9 * momentum + slope / _lengths(slope)
        # Ten radii of path in all, shortening to nothing: enough to cross the ball and to settle.
        length = 10 * radius * (1 - step / search.steps) / search.steps
        shift = shift.detach() - length * momentum / _lengths(momentum)
        shift = shift * (radius / _lengths(shift)).clamp(max=1)
    return tuple(Addition(target, scale * shift[i], low, high) for i, target in enumerate(classes))


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    channels = images.transpose(0, 1).flatten(1)
    return channels.amin(1)[:, None, None], channels.amax(1)[:, None, None]


def _drawn(available: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(available, (count,), generator=generator)


def _lengths(values: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(values, dim=(1, 2, 3), keepdim=True)
    return lengths.clamp_min(1e-12)
