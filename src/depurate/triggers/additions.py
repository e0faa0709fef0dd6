"""The search for additions: universal shifts of a given length, and the shortest length that works."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from depurate.triggers.candidates import value_range
from depurate.triggers.effort import cell_of, effort_on
from depurate.triggers.forms import Addition, lengths, within
from depurate.triggers.goals import misses
from depurate.triggers.search import Score, Search, answers, at_once, drawn, success

# Lengths of additions, in ranges of the pixel values, longer in proportion where pictures are large; the least at which
# one works on 90 % is looked for.
_RADII = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
WORKS = 0.9
"""Share of the images that an addition has to turn."""


def find_additions(
    score: Score, images: Tensor, goals: Sequence[int], search: Search, radius: float
) -> tuple[Addition, ...]:
    """Find for each goal the shift of a given length that makes a network reach it most often.

    min miss(f(clip(x + δ)), goal) subject to ‖δ/(high − low)‖₂ ≤ radius, by projected gradient descent.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        goals: Classes, or `AWAY` for any but the own.
        search: How long.
        radius: Length, in ranges of the images' values.

    Returns:
        One shift a goal.

    Source: Moosavi-Dezfooli et al., Universal adversarial perturbations, CVPR 2017 (the kind of perturbation).
    """
    generator = torch.Generator().manual_seed(search.seed)
    low, high = value_range(images)
    scale, own = (high - low).clamp_min(1e-12), answers(score, images)
    a_step = effort_on(images).a_step(search.images)
    shift = images.new_zeros(len(goals), *images.shape[1:])
    momentum = torch.zeros_like(shift)
    for step in range(search.steps):
        at = drawn(len(images), a_step, generator).to(images.device)
        shift.requires_grad_()
        slope = torch.zeros_like(shift)
        for part in torch.split(at, at_once(images, len(goals))):
            shown = within(images[part] + (scale * shift)[:, None], low, high)
            scores = score(shown.flatten(0, 1)).view(*shown.shape[:2], -1)
            slope += torch.autograd.grad(misses(scores, goals, own[part]).sum(), shift)[0]
        momentum = 0.9 * momentum + slope / lengths(slope)
        # Ten radii of path in all, shortening to nothing: enough to cross the ball and to settle.
        length = 10 * radius * (1 - step / search.steps) / search.steps
        shift = shift.detach() - length * momentum / lengths(momentum)
        shift = shift * (radius / lengths(shift)).clamp(max=1)
    return tuple(Addition(goal, scale * shift[i], low, high) for i, goal in enumerate(goals))


def shortest_additions(
    score: Score, images: Tensor, goals: Sequence[int], search: Search
) -> tuple[tuple[Addition, ...], list[float]]:
    """Find additions of the shortest length, among doublings, at which one of the goals is reached on 90 %.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        goals: Classes, or `AWAY`.
        search: How long at each length.

    Returns:
        One addition a goal, and the share of the images that each turns; of the greatest length where none works.
    """
    shorter, longer = 0, len(_RADII)
    found: tuple[tuple[Addition, ...], list[float]] = ((), [])
    tried = found
    # What works at one length works at every greater one, so halving finds the least in three searches of six.
    while shorter < longer:
        middle = (shorter + longer) // 2
        additions = find_additions(score, images, goals, search, cell_of(images) * _RADII[middle])
        tried = additions, success(score, images, additions)
        if max(tried[1]) >= WORKS:
            found, longer = tried, middle
        else:
            shorter = middle + 1
    return found if found[0] else tried
