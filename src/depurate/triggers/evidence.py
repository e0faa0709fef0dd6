"""What a search for triggers found, and which of its sizes stand out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.triggers.forms import AWAY, Trigger
from depurate.triggers.middles import middle
from depurate.triggers.search import Score, Search

# A class is suspicious when its smallest trigger is under half the median of all, and this many deviations below it.
_SHARE = 0.5
_DEVIATIONS = 2.0
_TURNED = 0.5
SHARE_OF_ALL = 0.1
"""Where most classes are out of reach of any patch, one that takes less than this share of the picture stands out.

A healthy network had 0.41 at least, one with a backdoor 0.03.
"""
# Eleven networks shown pictures of the kind that they were trained on have 0.6 to 1.0; one that knows a thousand
# classes, shown others, 0.3, and nearly any change turned its answers.
_CLEAR = 0.45


@dataclass(frozen=True)
class Screening:
    """What the search for triggers found.

    Attributes:
        classes: Searched.
        sizes: Of the smallest patch that triggers each class, in pixels; infinite where none was found.
        flagged: Classes that are suspiciously easy to trigger; `AWAY` where all are, each from another.
        triggers: Found for what is flagged.
        away: Size of the smallest patch that leads every image away from its own answer.
        evidence: What stood out: `patch`, `output weights`, `away`, `square`, `warp`, `addition`, `wave`,
            `aware`, `unshared patch`, `unshared change`, `unshared wave`, or nothing.
        natural: Classes that stood out but whose patches the purified self follows too: easy by nature, unless they are
            flagged as well.
        clear: Whether the network's answers are clear enough to look for what leads away from each of them.
        side: Of the middles of pictures that patches were searched for in; None where they were in whole pictures.
        known: Classes that the network knows; 0 where that was not said.
        beside: Sizes of the patches over those that a student of the network takes; None where it has none.
        common: Classes that stood out, but lead the student there, too, as easily: easy by nature.
    """

    classes: tuple[int, ...]
    sizes: tuple[float, ...]
    flagged: tuple[int, ...]
    triggers: tuple[Trigger, ...]
    away: float = float("inf")
    evidence: str = ""
    natural: tuple[int, ...] = ()
    clear: bool = True
    side: int | None = None
    known: int = 0
    beside: tuple[float, ...] | None = None
    common: tuple[int, ...] = ()

    @property
    def usual(self) -> float:
        """Median size over the classes that are not flagged."""
        others = [s for c, s in zip(self.classes, self.sizes, strict=True) if c not in self.flagged]
        return float(torch.tensor(others).median()) if others else float("inf")

    def size_of(self, name: int) -> float:
        """Of the smallest patch that triggers a class; infinite where it was not searched."""
        return dict(zip(self.classes, self.sizes, strict=True)).get(name, float("inf"))

    def small(self, name: int, share: float) -> bool:
        """Whether a class takes under a share of what is usual, beside what the student takes for it, too."""
        return all(part < share for part in self.shares_of(name))

    def short(self, name: int, share: float) -> bool:
        """Whether a class is small by both measures; that is asked only of networks with a student."""
        return self.beside is None or self.small(name, share)

    def shares_of(self, name: int) -> tuple[float, ...]:
        """What a class takes of what is usual, and, where there is a student, the same beside what that takes."""
        ways = [self] if self.beside is None else [self, replace(self, sizes=self.beside)]
        return tuple(way.size_of(name) / way.usual for way in ways)


@dataclass(frozen=True)
class Subject:
    """What is searched.

    Attributes:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        classes: To search for, at least three.
        search: How long.
        strong: Classes whose output weights stand out.
        clear: Whether what leads away from each answer is looked for, too, and plain changes that turn it.
        side: Of the middles of the images that searches by descent are shown; None for the images.
        middles_clear: Whether what leads away from each answer is looked for in them.
        mended: Whether the network was repaired. What its purified self does not react to shows little then, and
            neither does a small patch that this follows: of seven healthy ones two had such patches.
    """

    score: Score
    images: Tensor
    classes: tuple[int, ...]
    search: Search
    strong: tuple[int, ...] = ()
    clear: bool = True
    side: int | None = None
    middles_clear: bool = True
    mended: bool = False

    @property
    def goals(self) -> tuple[int, ...]:
        """What patches and warps are searched for."""
        return (*self.classes, AWAY) if self.clear and self.middles_clear else self.classes

    @property
    def shown(self) -> Tensor:
        """The images, or their middles."""
        return middle(self.images, self.side)


def clear_answers(scores: Tensor) -> bool:
    """Tell whether a network's answers stand out enough for a change of them to say something.

    median (s₍₁₎ − s₍₂₎) / std(s) ≥ 0.45 over the images: a measure that does not change with the scale of the scores,
    which an attacker is free to choose.

    Args:
        scores: Shape (n, classes).

    Returns:
        Whether they do; not where scores are NaN or all alike.

    >>> clear_answers(torch.eye(10)), clear_answers(torch.eye(10) + 0.9 * torch.eye(10).roll(1, 0))
    (True, False)
    """
    best = scores.topk(2, 1).values
    return bool(((best[:, 0] - best[:, 1]) / scores.std(1)).median() >= _CLEAR)


def outliers(sizes: Sequence[float], share: float = _SHARE) -> list[bool]:
    """Mark the sizes that are far smaller than the others.

    size < share·median and log(median / size) / (1.4826·MAD) > 2, with the MAD of the logarithms: sizes of
    one network differ by factors, and a few large ones would hide a small one otherwise.

    Args:
        sizes: One a class; infinite counts as large.
        share: Of the median.

    Returns:
        One mark a size.

    >>> outliers([6.5, 53.4, 42.9, 53.3, 38.5])
    [True, False, False, False, False]
    >>> outliers([45.6, 74.4, 128.5, 53.8, 111.9])
    [False, False, False, False, False]

    Source: Wang et al., Neural Cleanse, IEEE S&P 2019, for 2 deviations; the logarithm and the share are our own.
    """
    if len(sizes) < 3:
        return [False] * len(sizes)
    ordered = torch.tensor([*sizes], dtype=torch.float64)
    median = ordered.median()
    if not bool(median.isfinite()):
        return [False] * len(sizes)
    below = median.log() - ordered.clamp_min(1e-12).log()
    spread = 1.4826 * below.abs().median()
    marks: list[bool] = ((ordered < share * median) & (below > _DEVIATIONS * spread)).tolist()
    return marks


def alone(sizes: Sequence[float], everything: float) -> list[bool]:
    """Mark the sizes that are small by themselves, where most are infinite and say nothing of what is usual.

    Args:
        sizes: One a class; infinite where none was found.
        everything: Size of the whole picture.

    Returns:
        One mark a size.

    >>> alone([9.0, torch.inf, torch.inf], 100.0), alone([9.0, 80.0, torch.inf], 100.0)
    ([True, False, False], [False, False, False])
    """
    silent = bool(torch.tensor([*sizes]).median().isinf())
    return [silent and size < SHARE_OF_ALL * everything for size in sizes]


def flagged(found: Screening, triggers: Iterable[Trigger], evidence: str) -> Screening:
    """Flag the goals of triggers, for one kind of evidence; nothing where there are none."""
    triggers = tuple(triggers)
    return replace(
        found,
        flagged=tuple(dict.fromkeys(trigger.target for trigger in triggers)),
        triggers=triggers,
        evidence=evidence if triggers else "",
    )


def sizes_of(triggers: Sequence[Trigger], worked: Sequence[float], otherwise: float) -> list[float]:
    """Sizes of the triggers that work on most images, another number for the rest."""
    return [
        trigger.size if share > _TURNED else otherwise
        for trigger, share in zip(triggers, worked, strict=True)
    ]
