"""The decision whether a class is suspiciously easy to reach, from the triggers found for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.triggers.additions import WORKS, shortest_additions
from depurate.triggers.forms import AWAY, Trigger
from depurate.triggers.search import Score, Search, Step, find_patches, find_warps, success
from depurate.triggers.squares import scan_squares
from depurate.triggers.waves import FAINT, STRONG, find_wave

Told = Callable[[str, int, int], None]
# A class is suspicious when its smallest trigger is under half the median of all, and this many deviations below it.
_SHARE = 0.5
_DEVIATIONS = 2.0
# Where another network's answers have to stay, innocent classes scatter more: 0.42 was seen on healthy networks.
_SHARE_OF_TWO = 1 / 3
# And one counts while it is no larger than this share of what plain patches take: 1.25 and 2 were seen on healthy ones.
_SHORT = 0.75
# Larger warps than this share of the width are no small change any more.
_WIDEST_WARP = 1 / 7
_TURNED = 0.5
_RARE = 0.4
# Healthy networks of the zoo have no wave above 0.15 and 0.23.
_WAVES = ((FAINT, 0.3), (STRONG, 0.4))


@dataclass(frozen=True)
class Screening:
    """What the search for triggers found.

    Attributes:
        classes: Searched.
        sizes: Of the smallest patch that triggers each class, in pixels; infinite where none was found.
        flagged: Classes that are suspiciously easy to trigger; `AWAY` where all are, each from another.
        triggers: Found for what is flagged.
        away: Size of the smallest patch that leads every image away from its own answer.
        evidence: What stood out: `patch`, `output weights`, `away`, `square`, `warp`, `addition`, `unshared patch`,
            `unshared wave`, or nothing.
    """

    classes: tuple[int, ...]
    sizes: tuple[float, ...]
    flagged: tuple[int, ...]
    triggers: tuple[Trigger, ...]
    away: float = float("inf")
    evidence: str = ""

    @property
    def usual(self) -> float:
        """Median size over the classes that are not flagged."""
        others = [s for c, s in zip(self.classes, self.sizes, strict=True) if c not in self.flagged]
        return float(torch.tensor(others).median()) if others else float("inf")


@dataclass(frozen=True)
class Subject:
    """What is searched.

    Attributes:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        classes: To search for, at least three.
        search: How long.
        strong: Classes whose output weights stand out.
    """

    score: Score
    images: Tensor
    classes: tuple[int, ...]
    search: Search
    strong: tuple[int, ...] = ()


def screen(
    subject: Subject, purified: Callable[[], Score] | None = None, told: Told | None = None
) -> Screening:
    """Search for a trigger of every class and flag the classes that need far less than the others.

    A backdoor is a short cut: its class is reached with a change much smaller than any other class takes. Patches
    are judged by their size, and one that leads every image away from its own answer by the same measure (triggers
    that send each class to another); where output weights stand out, these classes are taken instead. Where none stands
    out, plain squares are tried all over the picture; then warps are searched for and judged by their size; then
    additions, by how often one length works; and last what turns the network but not its own purified self, which
    knows no short cuts.

    Args:
        subject: What to search.
        purified: Makes the network's purified self when it is needed; None leaves that part out.
        told: Called with (what, steps done, steps in all).

    Returns:
        The sizes, what is flagged and the triggers found for it.

    Source: Wang et al., Neural Cleanse, IEEE S&P 2019 (outliers among classes); the rest is our own.
    """
    told = told or (lambda what, done, total: None)
    found = _by_patches(subject, _step(told, "searching for patches"))
    if not found.flagged:
        found = _by_squares(subject, found, _step(told, "trying plain squares everywhere"))
    if not found.flagged:
        found = _by_warps(subject, found, _step(told, "searching for warps"))
    if not found.flagged:
        told("searching for additions", 0, 1)
        found = _by_additions(subject, found)
    if not found.flagged and purified is not None:
        found = _unshared(subject, found, purified(), _step(told, "comparing with the purified self"))
    return found


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


def _by_patches(subject: Subject, step: Step) -> Screening:
    goals = [*subject.classes, AWAY]
    patches = find_patches(subject.score, subject.images, goals, subject.search, step)
    *sizes, away = _sizes(patches, success(subject.score, subject.images, patches), float("inf"))
    found = Screening(subject.classes, tuple(sizes), (), (), away)
    if subject.strong:
        return _flagged(
            found, patches, [name in subject.strong for name in subject.classes], "output weights"
        )
    if any(outliers(sizes)):
        return _flagged(found, patches, outliers(sizes), "patch")
    # What leads away from every class has more to do than what leads to one: it is never easier by nature.
    if outliers([*sizes, away])[-1]:
        return replace(found, flagged=(AWAY,), triggers=(patches[-1],), evidence="away")
    return found


def _by_squares(subject: Subject, found: Screening, step: Step) -> Screening:
    plain, _ = scan_squares(subject.score, subject.images, step)
    if plain is None:
        return found
    triggers = (plain.square, *plain.elsewhere)
    return replace(found, flagged=(plain.square.target,), triggers=triggers, evidence="square")


def _by_warps(subject: Subject, found: Screening, step: Step) -> Screening:
    goals = [*subject.classes, AWAY]
    warps = find_warps(subject.score, subject.images, goals, subject.search, step)
    widest = _WIDEST_WARP * subject.images.shape[3]
    sizes = _sizes(warps, success(subject.score, subject.images, warps), widest)
    marks = outliers([min(size, widest) for size in sizes[:-1]])
    if any(marks):
        return _flagged(found, warps, marks, "warp")
    if outliers([min(size, widest) for size in sizes])[-1]:
        return replace(found, flagged=(AWAY,), triggers=(warps[-1],), evidence="warp")
    return found


def _by_additions(subject: Subject, found: Screening) -> Screening:
    """Flag the classes that an addition reaches at a length at which most classes are out of reach."""
    shorter = replace(subject.search, steps=subject.search.steps // 4)
    additions = shortest_additions(subject.score, subject.images, subject.classes, shorter)
    rates = success(subject.score, subject.images, additions)
    if sorted(rates)[len(rates) // 2] > _RARE:
        return found
    flagged = [name for name, rate in zip(subject.classes, rates, strict=True) if rate >= WORKS]
    return replace(found, flagged=tuple(flagged), evidence="addition" if flagged else "")


def _unshared(subject: Subject, found: Screening, purified: Score, step: Step) -> Screening:
    """Flag what turns the network and not its purified self, by less than it takes for other classes."""
    score, images, classes = subject.score, subject.images, subject.classes
    for waves, enough in _WAVES:
        wave, share = find_wave(score, purified, images, classes, waves)
        if wave is not None and share >= enough:
            return replace(found, flagged=(wave.target,), triggers=(wave,), evidence="unshared wave")
    patches = find_patches(score, images, classes, subject.search, step, unmoved=purified)
    everything = float(images.shape[2] * images.shape[3])
    sizes = _sizes(patches, success(score, images, patches, unmoved=purified), everything)
    # A short cut is short by itself, too: where hardly any class has an unshared patch, the others' say nothing.
    short = [size < _SHORT * found.usual for size in sizes]
    marks = [far and near for far, near in zip(outliers(sizes, _SHARE_OF_TWO), short, strict=True)]
    return _flagged(found, patches, marks, "unshared patch")


def _flagged(
    found: Screening, triggers: Sequence[Trigger], marks: Sequence[bool], evidence: str
) -> Screening:
    places = [place for place, mark in enumerate(marks) if mark]
    return replace(
        found,
        flagged=tuple(found.classes[place] for place in places),
        triggers=tuple(triggers[place] for place in places),
        evidence=evidence if places else "",
    )


def _sizes(triggers: Sequence[Trigger], worked: Sequence[float], otherwise: float) -> list[float]:
    """Sizes of the triggers that work on most images, another number for the rest."""
    return [
        trigger.size if share > _TURNED else otherwise
        for trigger, share in zip(triggers, worked, strict=True)
    ]


def _step(told: Told, what: str) -> Step:
    return lambda done, total: told(what, done, total)
