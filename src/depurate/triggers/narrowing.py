"""Which of many classes a search for triggers is for: those that short universal changes come nearest to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers.additions import find_additions
from depurate.triggers.effort import CELLS, effort_on
from depurate.triggers.forms import Addition
from depurate.triggers.goals import misses
from depurate.triggers.search import Score, Search, answers

MOST_CLASSES = 12
"""More than these are narrowed down."""
# Additions for ranking: their length in ranges of the values for pictures of 32 pixels, how long they are searched for,
# and what they are judged on. Of a hundred classes the target of four attacks was 3 to 9 nats ahead of the next, and
# that of two tried so was first at every length from 0.5 to 8.
_RADIUS, _STEPS, _IMAGES, _JUDGED = 4.0, 8, 4, 16
# Numbers in one picture for every class, at most: 170 classes of 64 by 64 pixels, 55 of 112 by 112.
_NUMBERS = 1 << 21


def likeliest(score: Score, images: Tensor, count: int, seed: int) -> tuple[int, ...]:
    """Choose at most twelve classes: those to which an addition of one length brings images nearest.

    rank by E −log p(c | clip(x + δ_c)) over images of other classes, δ_c from eight steps of `find_additions`. Where
    pictures are so large that even this takes long, only classes that images are answered with, or that untargeted
    universal changes lead to, are ranked.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        count: Of all classes.
        seed: Of the draws.

    Returns:
        The classes; where there are more than twelve, the nearest first.

    >>> likeliest(lambda images: images.flatten(1), torch.eye(4)[:, None, None], 4, 0)
    (0, 1, 2, 3)
    """
    classes: Sequence[int] = range(count)
    if count <= MOST_CLASSES:
        return tuple(classes)
    affordable = max(MOST_CLASSES, _NUMBERS // images[0].numel())
    if count > affordable:
        classes = _led_to(score, images, seed)[:affordable]
    search = Search(steps=_STEPS, images=_IMAGES, seed=seed)
    additions = find_additions(score, images, classes, search, _RADIUS * min(images.shape[2:]) / CELLS)
    judged = images[:_JUDGED]
    own = answers(score, judged)
    missed = {addition.target: _missed(score, judged, own, addition) for addition in additions}
    return tuple(sorted(classes, key=missed.__getitem__)[:MOST_CLASSES])


def _missed(score: Score, images: Tensor, own: Tensor, addition: Addition) -> float:
    """How far an addition leaves images of other classes from its target; nothing where all are answered with it."""
    others = own != addition.target
    if not others.any():
        return 0.0
    with torch.no_grad():
        scores = score(addition.on(images[others]))
    return float(misses(scores[None], [addition.target], own[others]).mean())


def _led_to(score: Score, images: Tensor, seed: int) -> tuple[int, ...]:
    """Classes that images are answered with, as they are or changed, most often first."""
    effort = effort_on(images)
    counts = Counter(answers(score, images[: effort.judged]).tolist())
    for draw in range(4):
        shift = _away(score, images[: effort.narrowed], seed + draw)
        counts.update(answers(score, images[: effort.counted] + shift).tolist())
    return tuple(name for name, _ in counts.most_common())


def _away(score: Score, images: Tensor, seed: int, steps: int = 15) -> Tensor:
    """A universal change that takes images from their answers, grown by normalised gradient steps."""
    generator = torch.Generator().manual_seed(seed)
    scale = images.std()
    shift = 0.01 * scale * torch.randn(images.shape[1:], generator=generator).to(images)
    own = answers(score, images)
    for _ in range(steps):
        shift.requires_grad_()
        loss = F.cross_entropy(score(images + shift), own)
        (slope,) = torch.autograd.grad(loss, shift)
        shift = shift.detach() + 0.05 * scale * slope / slope.abs().mean().clamp_min(1e-12)
    return shift
