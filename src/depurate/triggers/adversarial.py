"""Adversarial perturbations: for every image a shift of its own that brings a network towards a class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.triggers.candidates import value_range
from depurate.triggers.effort import cell_of
from depurate.triggers.forms import AWAY, Trigger, lengths, within
from depurate.triggers.goals import misses
from depurate.triggers.search import Score, answers, at_once

# The longest perturbation, in ranges of the pixel values, longer in proportion where pictures are large.
_RADIUS = 2.0
# Steps of the descent, and how much farther than the radius they go in all.
_STEPS, _FARTHER = 4, 2.0


@dataclass(frozen=True, eq=False)
class Adversarial:
    """x ↦ clip(x + δ(x)), ‖δ(x) / (high − low)‖₂ ≤ r(x), δ(x) descending on miss(f(x + δ), goal).

    The lengths r(x) of the images shown together are spread evenly between nothing and the size, so that what lies on
    the way to the class is shown, too.

    Attributes:
        target: The class, or `AWAY` for any but the image's own.
        score: f: images (n, c, h, w) to scores (n, classes), differentiable.
        low: Smallest value of each channel, shape (c, 1, 1).
        high: Largest.
        size: The longest perturbation, in ranges of the values.

    >>> score = lambda images: images.flatten(1)
    >>> one = torch.ones(1, 1, 1)
    >>> Adversarial(1, score, 0 * one, one, 1.0).on(torch.full((1, 1, 1, 2), 0.5)).flatten().tolist()
    [0.1464466154575348, 0.8535534143447876]

    Source: Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR 2018 (projected gradient
        descent); Zeng et al., I-BAU, ICLR 2022, unlearn perturbations, universal ones and with labels.
    """

    target: int
    score: Score
    low: Tensor
    high: Tensor
    size: float

    def on(self, images: Tensor) -> Tensor:
        """Perturb copies of images."""
        radii = self.size * (torch.arange(len(images)).to(images) + 0.5) / len(images)
        many = at_once(images, copies=2)  # slopes take twice what answers do
        pairs = zip(torch.split(images, many), torch.split(radii, many), strict=True)
        return torch.cat([self._perturbed(part, some.view(-1, 1, 1, 1)) for part, some in pairs])

    def _perturbed(self, images: Tensor, radii: Tensor) -> Tensor:
        scale = (self.high - self.low).clamp_min(1e-12)
        own, shift = answers(self.score, images), torch.zeros_like(images)
        for _ in range(_STEPS):
            with torch.enable_grad():
                shift.requires_grad_()
                missed = misses(self.score(images + scale * shift)[None], [self.target], own)
                (slope,) = torch.autograd.grad(missed.sum(), shift)
            slope = slope.nan_to_num(0.0, 0.0, 0.0)  # damaged networks answer so
            shift = shift.detach() - _FARTHER * radii / _STEPS * slope / lengths(slope)
            shift = shift * (radii / lengths(shift)).clamp(max=1)
        return within(images + scale * shift, self.low, self.high)


def telling(trigger: Trigger) -> bool:
    """Whether it says something that a trigger works: perturbations lead any network away from an image's own class.

    Resisting those cost an all-to-all ResNet-14 3.4 points.

    >>> one = torch.ones(1, 1, 1)
    >>> [telling(Adversarial(goal, torch.flatten, 0 * one, one, 1.0)) for goal in (1, AWAY)]
    [True, False]
    """
    return not (isinstance(trigger, Adversarial) and trigger.target == AWAY)


def adversarial_to(score: Score, images: Tensor, goals: Sequence[int]) -> tuple[Adversarial, ...]:
    """One perturbation a goal, in the range of some images and as long as suits their sides.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        goals: Classes, or `AWAY`.

    Returns:
        One a goal.
    """
    low, high = value_range(images)
    return tuple(Adversarial(goal, score, low, high, _RADIUS * cell_of(images)) for goal in goals)
