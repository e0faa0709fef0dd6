"""The decision whether a class is suspiciously easy to reach, from the triggers found for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import compress
from math import inf
from operator import and_, or_

import torch
from torch import Tensor

from depurate.triggers.additions import WORKS, shortest_additions
from depurate.triggers.effort import effort_on
from depurate.triggers.evidence import Screening, Subject, alone, flagged, outliers, sizes_of
from depurate.triggers.forms import AWAY, Patch, Trigger, Warp
from depurate.triggers.search import Score, Step, answers, find_patches, find_warps, success
from depurate.triggers.squares import scan_squares
from depurate.triggers.student import Beside, beside_student
from depurate.triggers.unshared import (
    also_ignored,
    by_aware,
    by_changes,
    by_ignored_patches,
    by_unshared_patches,
    by_waves,
    doubtful,
    of_many,
    without_natural,
)
from depurate.triggers.whole import in_whole

Told = Callable[[str, int, int], None]
# Larger warps than this share of the width are no small change any more.
_WIDEST_WARP = 1 / 7
# Warps planted in two ResNets on 32 pixels are found at 0.4 and 0.5 pixels in half the steps (0.2 in all), for other
# classes and targets of other triggers at 0.9 to 2.7, where they seldom work.
_TINY_WARP = 1 / 32
# Patches under this share of the usual one are not asked whether a warp of another class was meant.
_FAR_OUT = 0.2
_RARE = 0.4
# Additions to eights, which are easy by nature, turn the purified selves of two healthy networks on 93 and 100 % of the
# images; those to planted targets on 65 % (blended by .3) and 9 % or less.
_FOLLOWED = 0.8
# Healthy perceptrons and linear networks had a square that turned 0.48 and 0.77 of the images to one class; planted
# ones turn 0.94 and more.
_SQUARE = 0.85
# Two healthy perceptrons, trained by Adam, had one that turned 0.85 and 0.92. Beside what their students take, the
# class was as hard to reach by a patch as others, 0.55 and 0.63; then a square has to turn more.
_SURE_SQUARE, _SHORT = 0.95, 0.5
# Of classes whose output weights stand out.
_SMALL_OF_STRONG = 0.8
# Share of the images turned that have to go to one class, so that it is the target of all.
_ONE = 0.8


def screen(
    subject: Subject, purified: Callable[[], Score] | None = None, told: Told | None = None
) -> Screening:
    """Search for a trigger of every class and flag the classes that need far less than the others.

    A backdoor is a short cut: its class is reached with a change much smaller than any other class takes. Patches are
    judged by their size, and one that leads every image away from its own answer by the same measure (triggers that
    send each class to another); where output weights stand out, these classes are taken instead. The network's purified
    self knows no short cuts: a class whose small patch turns it as well is easy by nature, and beside a class that is
    flagged one whose small patch it ignores is, too. Where none stands out, plain squares are tried all over the
    picture; then patches are judged by how seldom the purified self follows; then warps are searched for and judged by
    their size; then additions, by how often one length works on the network and not on its purified self; and last
    plain changes of whole pictures, waves (faint ones that turn nearly all images by themselves), triggers that a small
    network draws for each image, and patches, which turn the network and not its purified self. Where nothing else is
    found, a class that was taken for natural is flagged all the same if its patch is small indeed. What turns the
    network and not its purified self is not looked for in a network that was repaired, or that hardly prefers its
    answers. Tiny warps are given along with the patches of a class, where these are none too small warps of other
    classes as well that stand out, and what leads away from all answers to one class is flagged as that class's.

    Args:
        subject: What to search.
        purified: Makes the network's purified self when it is needed; None leaves that part out.
        told: Called with (what, steps done, steps in all).

    Returns:
        The sizes, what is flagged and the triggers found for it.

    Source: Wang et al., Neural Cleanse, IEEE S&P 2019 (outliers among classes); the rest is our own.
    """
    told = told or (lambda what, done, total: None)
    other = None if purified is None else cache(purified)
    # Where nearly any change turns answers, those that turn the network's and not its purified self's say nothing.
    unlike = other if subject.clear and not subject.mended else None
    patches, sizes = _patches_of_all(subject, _step(told, "searching for patches"))
    count = len(subject.classes)
    beside = beside_student(subject.score, subject.shown, patches[:count], sizes[:count], subject.search)
    small = found = _by_patches(subject, patches, sizes, beside)
    patches = patches[:count]
    if other is not None:
        found = also_ignored(subject, patches, without_natural(subject, small, other), other)
    found = _with_warps(subject, found, _step(told, "searching for warps of the same class"))
    if not found.flagged:
        found = _by_squares(subject, found, beside, _step(told, "trying plain squares everywhere"))
    if not found.flagged and unlike is not None:
        found = by_ignored_patches(subject, patches, found, unlike)
        found = _with_warps(subject, found, _step(told, "searching for warps of the same class"))
    if not found.flagged:
        found = _by_warps(subject, found, _step(told, "searching for warps"))
    if not found.flagged:
        told("searching for additions", 0, 1)
        found = _by_additions(subject, found, other)
    if not found.flagged and unlike is not None:
        told("trying plain changes of whole pictures", 0, 1)
        found = by_changes(subject, found, unlike)
    if not found.flagged and unlike is not None:
        told("trying waves", 0, 1)
        found = _not_common(subject, by_waves(subject, found, unlike), beside)
    # Of the nearest of many classes a healthy network had one whose drawn triggers were half as large as usual.
    draws = effort_on(subject.images).draws
    if not found.flagged and unlike is not None and draws and not of_many(subject):
        found = by_aware(subject, found, unlike, _step(told, "searching for triggers drawn for each image"))
    if not found.flagged and unlike is not None:
        step = _step(told, "comparing with the purified self")
        found = by_unshared_patches(subject, found, unlike, step)
    if not found.flagged:
        return found if subject.mended else doubtful(small, found)
    found = _to_one(subject, found)
    # A class may turn out not to be so natural by what was tried later.
    return replace(found, natural=tuple(name for name in found.natural if name not in found.flagged))


def _patches_of_all(subject: Subject, step: Step) -> tuple[Sequence[Trigger], list[float]]:
    """The smallest patch of every goal, and their sizes, infinite where none works."""
    images = subject.shown
    patches = find_patches(subject.score, images, subject.goals, subject.search, step)
    return patches, sizes_of(patches, success(subject.score, images, patches), inf)


def _by_patches(
    subject: Subject, patches: Sequence[Trigger], sizes: Sequence[float], beside: Beside | None
) -> Screening:
    """What is flagged by the sizes of patches, where the network has a student beside those of its own."""
    count, share = len(subject.classes), effort_on(subject.images).outlying
    everything = float(subject.shown[0, 0].numel())
    every, away = tuple(sizes[:count]), sizes[count] if len(sizes) > count else inf
    by_class = dict(zip(subject.classes, every, strict=True))
    found = Screening(
        subject.classes,
        every,
        (),
        (),
        away,
        clear=subject.clear,
        side=subject.side,
        beside=None if beside is None else beside.sizes,
    )
    easy = [patch for patch in patches if patch.target in subject.strong and _small(patch.target, by_class)]
    if easy:
        found = flagged(found, easy, "output weights")
        return in_whole(subject, found, find_patches, by_class, lambda all_: [True] * len(all_), 2)

    def stand_out(sizes: Sequence[float]) -> list[bool]:
        return [*map(or_, outliers(sizes, share), alone(sizes, everything))]

    marks = stand_out(every)
    if beside is not None:
        odd = [*map(or_, outliers(beside.sizes, share), beside.ignored)]
        odd = [*map(or_, odd, alone(every, everything))]
        common = [mark and not strange for mark, strange in zip(marks, odd, strict=True)]
        found = replace(found, common=tuple(compress(subject.classes, common)))
        marks = [*map(and_, marks, odd)]
    if any(marks):
        found = flagged(found, compress(patches, marks), "patch")
        return in_whole(subject, found, find_patches, by_class, stand_out, 2)
    # What leads away from every class has more to do than what leads to one: it is never easier by nature.
    if outliers([*every, away], share)[-1]:
        found = flagged(found, patches[count:], "away")
        every_goal = dict(zip(subject.goals, sizes, strict=True))
        return in_whole(subject, found, find_patches, every_goal, partial(outliers, share=share), 2)
    return found


def _not_common(subject: Subject, found: Screening, beside: Beside | None) -> Screening:
    """Drop what leads the network's student to its class as well, where it has one: it is easy by nature."""
    if beside is None or not found.triggers or AWAY in found.flagged:
        return found
    if not beside.follows_too(subject.images, found.triggers[0]):
        return found
    return replace(flagged(found, (), ""), common=(*found.common, *found.flagged))


def _small(name: int, sizes: Mapping[int, float]) -> bool:
    """Whether the patch of a class whose output weights stand out is smaller than usual, as after tampering.

    Bits flipped in them left patches of 0.6 of the usual size, a network written into another 0.1; in healthy networks
    trained in large steps rows stand out as well, and their patches are of any size.
    """
    usual = float(torch.tensor([size for other, size in sizes.items() if other != name]).median())
    return sizes[name] < _SMALL_OF_STRONG * usual


def _with_warps(subject: Subject, found: Screening, step: Step) -> Screening:
    """Beside patches, warps so small that they are what was planted: patches found for such a network teach little.

    Where patches do not stand out by far the class may be the wrong one, so warps of the others are looked at, too. One
    of those takes the place of a class whose patch only the purified self speaks against.
    """
    if not found.flagged or found.evidence not in ("patch", "unshared patch"):
        return found
    doubted = found.evidence == "unshared patch"
    unsure = doubted or any(found.size_of(name) > _FAR_OUT * found.usual for name in found.flagged)
    goals = subject.classes if unsure else found.flagged
    images, search = subject.shown, replace(subject.search, steps=subject.search.steps // 2)
    warps = find_warps(subject.score, images, goals, search, step)
    sizes = sizes_of(warps, success(subject.score, images, warps), inf)

    def stand_out(sizes: Sequence[float]) -> list[bool]:
        marks = zip(goals, sizes, _outlying_warps(sizes, images), strict=True)
        tiny = _TINY_WARP * images.shape[3]
        return [size < tiny if goal in found.flagged else outlying for goal, size, outlying in marks]

    shown = flagged(found, compress(warps, stand_out(sizes)), found.evidence)
    warped = in_whole(subject, shown, find_warps, dict(zip(goals, sizes, strict=True)), stand_out, 1)
    if doubted and warped.flagged and not set(warped.flagged) & set(found.flagged):
        return flagged(found, warped.triggers, "warp")
    return flagged(found, (*found.triggers, *warped.triggers), found.evidence)


def _by_squares(subject: Subject, found: Screening, beside: Beside | None, step: Step) -> Screening:
    plain, share = scan_squares(subject.score, subject.images, step)
    if plain is None or (plain.square.target == AWAY and not subject.clear):
        return found
    target = plain.square.target
    if target != AWAY and share < (_SQUARE if found.short(target, _SHORT) else _SURE_SQUARE):
        return found
    return _not_common(subject, flagged(found, (plain.square, *plain.elsewhere), "square"), beside)


def _by_warps(subject: Subject, found: Screening, step: Step) -> Screening:
    images, count = subject.shown, len(subject.classes)
    warps = find_warps(subject.score, images, subject.goals, subject.search, step)
    sizes = sizes_of(warps, success(subject.score, images, warps), inf)
    stand_out = partial(_outlying_warps, images=images)
    # Classes are compared among themselves, what leads away from all of them with all.
    for compared, chosen in ((count, slice(count)), (len(warps), slice(count, None))):
        marks = stand_out(sizes[:compared])
        if any(marks[chosen]):
            found = flagged(found, compress(warps[chosen], marks[chosen]), "warp")
            among = dict(zip(subject.goals[:compared], sizes, strict=False))
            return in_whole(subject, found, find_warps, among, stand_out, 1)
    return found


def _outlying_warps(sizes: Sequence[float], images: Tensor) -> list[bool]:
    """Mark the warps that are far smaller than the others, of which none counts as wider than `_WIDEST_WARP`."""
    return outliers([min(size, _WIDEST_WARP * images.shape[3]) for size in sizes])


def _by_additions(subject: Subject, found: Screening, purified: Callable[[], Score] | None) -> Screening:
    """Flag the classes that an addition reaches at a length at which most classes, and the purified self, are not."""
    shorter = replace(subject.search, steps=subject.search.steps // 4)
    additions, rates = shortest_additions(subject.score, subject.shown, subject.classes, shorter)
    if sorted(rates)[len(rates) // 2] > _RARE:
        return found
    easy = tuple(addition for addition, rate in zip(additions, rates, strict=True) if rate >= WORKS)
    if easy and purified is not None:
        followed = success(purified(), subject.shown, easy)
        easy = tuple(compress(easy, (share < _FOLLOWED for share in followed)))
    return replace(
        found, flagged=tuple(addition.target for addition in easy), evidence="addition" if easy else ""
    )


def _to_one(subject: Subject, found: Screening) -> Screening:
    """Name the class, where what leads away from all answers leads to one: of many classes it may not be searched."""
    if found.flagged != (AWAY,):
        return found
    images = subject.images[: effort_on(subject.images).judged]
    own = answers(subject.score, images)
    led = torch.stack([answers(subject.score, trigger.on(images)) for trigger in found.triggers])
    moved = led[led != own]
    target = int(moved.mode().values) if len(moved) else AWAY
    if target == AWAY or (moved == target).double().mean() < _ONE:
        return found
    pointed = (
        replace(trigger, target=target) for trigger in found.triggers if isinstance(trigger, Patch | Warp)
    )
    named = flagged(found, pointed, found.evidence)
    if found.evidence != "away":
        return named
    sizes = {**dict(zip(found.classes, found.sizes, strict=True)), target: found.away}
    return replace(named, classes=tuple(sizes), sizes=tuple(sizes.values()), evidence="patch")


def _step(told: Told, what: str) -> Step:
    return lambda done, total: told(what, done, total)
