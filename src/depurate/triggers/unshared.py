"""What turns a network and leaves its purified self alone, which knows no short cuts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import compress

import torch

from depurate.triggers.changes import whole_changes
from depurate.triggers.compared import Tried, Unshared, most_unshared
from depurate.triggers.effort import effort_on
from depurate.triggers.evidence import Screening, Subject, flagged, outliers, sizes_of
from depurate.triggers.forms import Addition, Trigger
from depurate.triggers.search import Score, Step, find_aware, find_patches, success
from depurate.triggers.waves import FAINT, STRONG, Waves, find_wave
from depurate.triggers.whole import in_whole

Purified = Callable[[], Score]
# Share of the images on which a purified self follows a patch: 0.19 at most where it was planted, 0.25 and more for
# classes that are easy by nature, in the networks at hand.
_FOLLOWED = 0.22
# A patch so much smaller than a usual class takes is a short cut by itself; by nature 0.2 has been seen.
_SURELY = 0.15
# Of healthy networks with a student those nearest to that had 0.27, and 0.42 beside what the student takes; a planted
# patch that the purified self follows on 0.45 of the images had 0.16 and 0.33.
_SURELY_BESIDE = (0.2, 0.4)
# Where nothing else is found, patches under this share are flagged all the same: a watermark that survived in the
# purified self had 0.27; of classes easy by nature in healthy networks 0.5 is the least seen.
_DOUBTFUL = 0.4
# What the purified self hardly follows, half as often as patches of other classes, need be no smaller than this.
_SMALLER = 0.9
# Of many classes those nearest are searched, and scatter by being chosen: 0.76 was seen on a healthy network.
_SMALLER_OF_MANY = 0.5
_SELDOM = 0.5
# Beside a class that stands out, what the purified self hardly follows has to be under this share of the usual size.
_HIDDEN = 0.5
# Triggers drawn for each image scatter more: 0.57 was seen on a healthy network, 0.45 on one with such a backdoor.
_SMALLER_DRAWN = 2 / 3
# Networks that draw triggers take more steps than a trigger.
_LONGER = 2
# An unshared patch counts while it is no larger than this share of what plain patches take: 1.25 and 2 were seen on
# healthy networks.
_SHORT = 0.75
# Where the other network's answers have to stay, innocent classes scatter more: 0.42 was seen on healthy networks.
_SHARE_OF_TWO = 1 / 3
# Of 34 healthy networks two had waves that turn 0.31 and 0.34 of the images, the second 0.19 to another class; planted
# ones have 0.34 to 0.88, and under half of that to another class. Of plain changes less contrast alone turned over 0.18
# in healthy networks, 0.34 at most.
_WAVES, _GREYING, _ELSEWHERE = 0.33, 0.4, 0.5
# A faint wave that turns so many is planted whether the purified self follows it or not: healthy networks on CIFAR-10,
# and those with other backdoors, had 0.79 at most, two planted waves 0.98 and 1 (one followed on 0.92), with 0.53 of
# that to another class. A healthy one that hardly learnt its digits had 1, and 0.98 to another class; but it has a
# student, and such networks are left out of this.
_NEARLY_ALL, _NEARLY_ELSEWHERE = 0.95, 0.75
# What leads nearly all images to the class that a plain change or a wave was found for is taught along.
_LED = 0.95
_HIGHER = (2.0, 3.0)


def without_natural(subject: Subject, found: Screening, purified: Purified) -> Screening:
    """Drop the flags of classes whose small patches turn the purified self too: they are easy by nature.

    Args:
        subject: What is searched.
        found: Flagged by the size of patches; anything else is left as it is.
        purified: The network's purified self.

    Returns:
        What is still flagged, and what was taken for natural.
    """
    if found.evidence != "patch":
        return found
    unsure = [trigger for trigger in found.triggers if not _surely(found, trigger.target)]
    if not unsure:
        return found
    shares = success(purified(), subject.images, unsure)
    natural = {trigger.target for trigger, share in zip(unsure, shares, strict=True) if share > _FOLLOWED}
    kept = (trigger for trigger in found.triggers if trigger.target not in natural)
    return replace(flagged(found, kept, "patch"), natural=tuple(natural))


def _surely(found: Screening, name: int) -> bool:
    plain, *beside = found.shares_of(name)
    return plain < _SURELY or any(plain < _SURELY_BESIDE[0] and part < _SURELY_BESIDE[1] for part in beside)


def doubtful(small: Screening, found: Screening) -> Screening:
    """Flag classes that were taken for natural after all, where nothing else was found and their patches are small.

    Args:
        small: What the sizes of patches alone flag.
        found: By all searches: nothing.
    """
    kept = (
        trigger
        for trigger in small.triggers
        if trigger.target in found.natural and small.size_of(trigger.target) < _DOUBTFUL * small.usual
    )
    return flagged(found, kept, "patch")


def by_ignored_patches(
    subject: Subject, patches: Sequence[Trigger], found: Screening, purified: Purified
) -> Screening:
    """Flag classes whose patches are none too small but hardly followed by the purified self, unlike those of others.

    Args:
        subject: What is searched.
        patches: The smallest of each class.
        found: So far.
        purified: The network's purified self.
    """
    # A student tells better what is easy than patches of other classes do.
    unsure = of_many(subject) or found.beside is not None
    smaller = _SMALLER_OF_MANY if unsure else _SMALLER
    small = [math.isfinite(found.usual) and found.small(name, smaller) for name in subject.classes]
    ignored = _ignored(subject, patches, found.sizes, small, purified)
    found = flagged(found, compress(patches, ignored), "unshared patch")
    sizes = dict(zip(subject.classes, found.sizes, strict=True))
    return in_whole(subject, found, find_patches, sizes, partial(_under, share=smaller), 2)


def also_ignored(
    subject: Subject, patches: Sequence[Trigger], found: Screening, purified: Purified
) -> Screening:
    """Flag, beside classes flagged by the size of their patches, others that may hide behind them.

    Several backdoors in one network spread the sizes so far that not every one of them stands out. Under half of what
    others take, a patch that the purified self ignores is one more.

    Args:
        subject: What is searched.
        patches: The smallest of each class.
        found: Flagged by the size of patches; anything else is left as it is.
        purified: The network's purified self.

    Returns:
        What was flagged, and these.
    """
    if found.evidence != "patch":
        return found
    sizes = dict(zip(subject.classes, found.sizes, strict=True))
    others = {name: size for name, size in sizes.items() if name not in (*found.flagged, *found.natural)}

    def stand_out(sizes: Sequence[float]) -> list[bool]:
        return [size < _HIDDEN * found.usual for size in sizes]

    patches = [patch for patch in patches if patch.target in others]
    small = [found.small(name, _HIDDEN) for name in others]
    ignored = compress(patches, _ignored(subject, patches, [*others.values()], small, purified))
    more = in_whole(subject, flagged(found, ignored, "patch"), find_patches, others, stand_out, 2)
    return flagged(found, (*found.triggers, *more.triggers), "patch")


def by_aware(subject: Subject, found: Screening, purified: Purified, step: Step) -> Screening:
    """Flag classes by triggers drawn for each image: smaller than for others, and ignored by the purified self."""
    if not any(found.short(name, _SHORT) for name in subject.classes):
        return found  # none may count
    longer = replace(subject.search, steps=_LONGER * subject.search.steps)
    drawn = find_aware(subject.score, subject.images, subject.classes, longer, step)
    sizes = sizes_of(drawn, success(subject.score, subject.images, drawn), float("inf"))
    small = _under(sizes, _SMALLER_DRAWN)
    small = [mark and found.short(name, _SHORT) for name, mark in zip(subject.classes, small, strict=True)]
    return flagged(found, compress(drawn, _ignored(subject, drawn, sizes, small, purified)), "aware")


def of_many(subject: Subject) -> bool:
    """Whether only the nearest of many classes are searched."""
    with torch.no_grad():
        return subject.score(subject.images[:2]).shape[1] > len(subject.classes)


def _under(sizes: Sequence[float], share: float) -> list[bool]:
    """Which sizes are under a share of the median; none where most are infinite: nothing to compare with."""
    usual = float(torch.tensor(sizes).median())
    return [math.isfinite(usual) and size < share * usual for size in sizes]


def _ignored(
    subject: Subject,
    triggers: Sequence[Trigger],
    sizes: Sequence[float],
    small: Sequence[bool],
    purified: Purified,
) -> list[bool]:
    """Which of the small triggers the purified self follows seldom, half as often as others and less than any other.

    Where it follows one that is not small as seldom, it is weak, and the class no short cut.
    """
    if not any(small):
        return list(small)
    shares = success(purified(), subject.shown, triggers)
    told = zip(shares, sizes, small, strict=True)
    least = min((share for share, size, mark in told if math.isfinite(size) and not mark), default=math.inf)
    most = min(_FOLLOWED, _SELDOM * float(torch.tensor(shares).median()), least)
    return [is_small and share < most for is_small, share in zip(small, shares, strict=True)]


def by_changes(subject: Subject, found: Screening, purified: Purified) -> Screening:
    """Flag the class that a plain change of whole pictures leads to in the network and not in its purified self.

    Where a sinusoid turns more images still it is taken instead: a network that a wave was planted in may react to
    half the contrast, too.
    """
    score, images = subject.score, subject.images
    changes = whole_changes(images)
    effort = effort_on(images)
    for greys, least in ((False, effort.changed), (True, max(effort.changed, _GREYING))):
        family = [change for change in changes if change.greys == greys]
        plain = most_unshared(
            score,
            purified(),
            images,
            subject.classes,
            family,
            deaf=True,
            first=effort.changes,
            beyond=_ELSEWHERE * least,
        )
        best = _planted(plain, least)
        if best is not None:
            break
    else:
        return found
    wave = _planted_wave(subject, purified(), STRONG, max(plain.share, _WAVES))
    if wave is not None:
        return flagged(found, _with_higher(subject, wave), "unshared wave")
    akin = [replace(change, target=best.target) for change in changes if change.name != best.name]
    # Once the class is known, what leads there is to be taught, whether the purified self resists or not.
    also = compress(akin, (other >= _LED for other in success(score, images, akin)))
    return flagged(found, [best, *also], "unshared change")


def by_waves(subject: Subject, found: Screening, purified: Purified) -> Screening:
    """Flag the class that a sinusoid leads to in the network and not in its purified self, or a faint one by itself."""
    if found.beside is None:
        alone = _planted_wave(subject, None, FAINT, _NEARLY_ALL, _NEARLY_ELSEWHERE)
        if alone is not None:
            return flagged(found, (alone,), "wave")
    for waves in (FAINT, STRONG):
        wave = _planted_wave(subject, purified(), waves, _WAVES)
        if wave is not None:
            # A faint one that works needs no other; taught higher, it cost a ResNet-14 a point.
            taught = _with_higher(subject, wave) if waves is STRONG else (wave,)
            return flagged(found, taught, "unshared wave")
    return found


def _planted_wave(
    subject: Subject, unmoved: Score | None, waves: Waves, least: float, elsewhere: float = _ELSEWHERE
) -> Addition | None:
    # What turns less than this neither counts nor speaks against one that counts.
    beyond = elsewhere * least
    found = find_wave(subject.score, unmoved, subject.images, subject.classes, waves, beyond)
    return _planted(found, least, elsewhere)


def _planted(found: Unshared[Tried], least: float, elsewhere: float = _ELSEWHERE) -> Tried | None:
    """The trigger, if it leads to its class as a planted one does: often, and hardly any of its kind to others."""
    alone = found.share >= least and found.elsewhere <= elsewhere * found.share
    return found.trigger if alone else None


def _with_higher(subject: Subject, wave: Addition) -> tuple[Addition, ...]:
    """A wave and the same higher, where that leads nearly all images to its class: what was planted may be higher."""
    higher = [replace(wave, shift=times * wave.shift) for times in _HIGHER]
    led = success(subject.score, subject.images, higher)
    return (wave, *compress(higher, (share >= _LED for share in led)))


def by_unshared_patches(subject: Subject, found: Screening, purified: Purified, step: Step) -> Screening:
    """Flag classes by patches that were searched for to turn the network and not its purified self.

    In a network with a student, classes that are short beside it come first, and the others, to compare with, only
    where one of these may count. Elsewhere any class may: that of triggers drawn for each image took 64 pixels, others
    35 to 62, but 33 where the purified self was to be spared, others 127 and more.
    """
    nearest = sorted(subject.classes, key=found.size_of)[: effort_on(subject.shown).compared]
    able = [name for name in nearest if found.short(name, _SHORT)]
    patches, sizes = _unshared_patches(subject, purified(), able, step)
    # A short cut is short by itself, too: where hardly any class has an unshared patch, the others' say nothing.
    short = _SHORT * found.usual
    if not any(size < short for size in sizes.values()):
        return found
    others = [name for name in nearest if name not in able]
    sizes |= _unshared_patches(subject, purified(), others, step)[1]

    def stand_out(sizes: Sequence[float]) -> list[bool]:
        return [far and size < short for far, size in zip(outliers(sizes, _SHARE_OF_TWO), sizes, strict=True)]

    marks = dict(zip(sizes, stand_out([*sizes.values()]), strict=True))
    unshared = [patch for patch in patches if marks[patch.target]]
    find = partial(find_patches, unmoved=purified())
    return in_whole(subject, flagged(found, unshared, "unshared patch"), find, sizes, stand_out, 2)


def _unshared_patches(
    subject: Subject, unmoved: Score, goals: Sequence[int], step: Step
) -> tuple[tuple[Trigger, ...], dict[int, float]]:
    """The smallest unshared patch of each goal, and their sizes: the whole picture's where none works."""
    if not goals:
        return (), {}
    patches = find_patches(subject.score, subject.shown, goals, subject.search, step, unmoved=unmoved)
    shares = success(subject.score, subject.shown, patches, unmoved=unmoved)
    everything = float(subject.shown[0, 0].numel())
    return patches, dict(zip(goals, sizes_of(patches, shares, everything), strict=True))
