"""A student of a network's answers to benign images, which show no trigger: what is easy for it is easy by nature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.triggers.effort import effort_on
from depurate.triggers.evidence import sizes_of
from depurate.triggers.forms import Trigger
from depurate.triggers.search import Score, Search, find_patches, scores_of, success

# More make no better witness, and the equations grow with their cube.
_LEARNT = 500
# Of ridges between 1e-4 and 1e-1 on six healthy networks and seven with backdoors, this one told them apart best.
_RIDGE = 1e-2
# Students of networks on digits are right on 0.78 to 0.97 of the images, of those on clothes on 0.65 to 0.9, on
# CIFAR-10 on a third to a half.
_AGREES = 0.6
# Where the student follows most classes' patches on this share of the images, one that it ignores was planted: students
# of networks on 8x8 digits do, on half of the images, and follow planted ones on 0.18 at most.
_FOLLOWS, _SELDOM = 0.2, 0.5
# Students follow a square and waves of healthy networks on 0.1 and 0.2 of the images, planted ones on none.
_BY_CHANCE = 0.05


@dataclass(frozen=True)
class Student:
    """Kernel ridge regression of a network's scores on the pixels.

    Attributes:
        known: Images that were learnt, shape (n, pixels).
        weights: Of each, shape (n, classes).
        usual: Mean scores, shape (classes,).
        width: m, the median squared distance of two of the images.
        agreement: Share of the images that it answers as the network does, each without having learnt it.
    """

    known: Tensor
    weights: Tensor
    usual: Tensor
    width: float
    agreement: float

    def __call__(self, images: Tensor) -> Tensor:
        """Scores, shape (n, classes), in the images' type."""
        near = torch.exp(-_squares(images.flatten(1), self.known) / self.width)
        return near @ self.weights + self.usual


def teach(score: Score, images: Tensor) -> Student | None:
    """Teach a student what a network answers to benign images, in closed form.

    s(x) = b + Σᵢ αᵢ exp(−|x − xᵢ|² / m), (K + λn I) α = F − b, with scores F centred image by image and b their mean.
    It was shown no trigger, so it knows none. What it answers to an image that it has not learnt follows from the same
    equations, sᵢ = Fᵢ − αᵢ / ((K + λn I)⁻¹)ᵢᵢ: a student that is right on under three fifths of them shows nothing.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign; the first 500 are learnt.

    Returns:
        The student; None where it is often wrong, or scores or images are not all finite or the images all the same.

    >>> bright = torch.arange(12.0).view(12, 1, 1, 1) / 12
    >>> student = teach(lambda images: torch.cat([images, 1 - images], 1).flatten(1), bright)
    >>> student.agreement > 0.8, student(bright[:2]).argmax(1).tolist()
    (True, [1, 1])

    Source: Saunders, Gammerman & Vovk, Ridge regression learning algorithm in dual variables, ICML 1998; a student as
        the measure of what is easy is our own.
    """
    images = images[:_LEARNT]
    taught = scores_of(score, images).double()
    taught = taught - taught.mean(1, keepdim=True)
    known = images.flatten(1).double()
    apart = _squares(known, known)
    width = float(apart.median())
    if not (bool(taught.isfinite().all()) and 0 < width < torch.inf):
        return None
    usual = taught.mean(0)
    ridge = _RIDGE * len(images) * torch.eye(len(images), dtype=known.dtype, device=known.device)
    inverse = torch.linalg.inv(torch.exp(-apart / width) + ridge)
    weights = inverse @ (taught - usual)
    untaught = taught - weights / inverse.diagonal()[:, None]
    agreement = float((untaught.argmax(1) == taught.argmax(1)).double().mean())
    if agreement < _AGREES:
        return None
    dtype = images.dtype
    return Student(known.to(dtype), weights.to(dtype), usual.to(dtype), width, agreement)


@dataclass(frozen=True)
class Beside:
    """The patches of all classes beside a network's student.

    Attributes:
        student: Of the network.
        sizes: Of the patches, over those of the student's own.
        follows: Median share of the images on which the student follows the patches.
        ignored: Which patches it follows half as often as that, where it follows them on a fifth of the images.
    """

    student: Student
    sizes: tuple[float, ...]
    follows: float
    ignored: tuple[bool, ...]

    def follows_too(self, images: Tensor, trigger: Trigger) -> bool:
        """Whether the student follows another trigger, so that this is no backdoor's: more than it does by chance."""
        (share,) = success(self.student, images, [trigger])
        return share > max(_BY_CHANCE, _SELDOM * self.follows)


def beside_student(
    score: Score, images: Tensor, patches: Sequence[Trigger], sizes: Sequence[float], search: Search
) -> Beside | None:
    """Compare the smallest patches of all classes with those that lead a network's student there.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign.
        patches: One a class.
        sizes: Of them, in pixels; infinite where none works.
        search: How long to search the student.

    Returns:
        The comparison; None where pictures are large or the network has no student.
    """
    student = None if effort_on(images).middles else teach(score, images)
    if student is None:
        return None
    goals = [patch.target for patch in patches]
    own = find_patches(student, images, goals, search)
    everything = float(images[0, 0].numel())
    easy = torch.tensor(sizes_of(own, success(student, images, own), everything))
    shares = torch.tensor(success(student, images, patches))
    follows = float(shares.median())
    return Beside(
        student,
        tuple((torch.tensor(sizes) / easy).tolist()),
        follows,
        tuple((shares < _SELDOM * follows).tolist()) if follows >= _FOLLOWS else (False,) * len(goals),
    )


def _squares(images: Tensor, others: Tensor) -> Tensor:
    """Squared distances, shape (n, m)."""
    lengths = images.square().sum(1, keepdim=True) + others.square().sum(1)
    return (lengths - 2 * images @ others.T).clamp_min(0)
