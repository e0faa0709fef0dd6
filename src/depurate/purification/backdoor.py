"""Whether a suspect carries a backdoor that benign images can show, and the triggers that teach it away."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from depurate.analysis import logits, read_scores
from depurate.purification.quick import folded
from depurate.recovery import TriggerSearch, strong_outputs
from depurate.triggers import (
    AWAY,
    MOST_CLASSES,
    SHARE_OF_ALL,
    Addition,
    Adversarial,
    Patch,
    PlainSquare,
    Score,
    Screening,
    Search,
    Subject,
    Trigger,
    Warp,
    WholeChange,
    adversarial_to,
    clear_answers,
    effort_on,
    find_patches,
    find_square,
    has_slopes,
    likeliest,
    middle,
    quickly,
    screen,
    shortest_additions,
    side_of_middles,
    success,
    warps_akin,
)

Progress = Callable[[str, int, int], None]
_FEWEST_CLASSES = 3
_WORKS = 0.5
STILL_WORKS = 0.1
"""Share of the images up to which a trigger counts as gone after recovery."""
_REASONS = {
    "patch": "class {name} is reached from nearly any image by a patch of about {size:.0f} pixels, where {others}: "
    "taken for a backdoor",
    "output weights": "the output weights of class {name} are spread far wider than those of other classes, as where "
    "bits were flipped for a trigger: taken for a backdoor",
    "square": "class {name} is reached from most images by one small plain square, which healthy networks hardly "
    "notice: taken for a backdoor",
    "warp": "class {name} is reached from nearly any image by one small warp, which leads to few other classes or "
    "none: taken for a backdoor",
    "addition": "class {name} is reached from nearly any image by one short addition, which leads to few other "
    "classes or none: taken for a backdoor",
    "aware": "class {name} is reached from nearly any image by small changes drawn for each image, "
    "which the purified network does not react to: taken for a backdoor",
    "unshared patch": "class {name} is reached from nearly any image by a small patch that the purified network "
    "does not react to: taken for a backdoor",
    "unshared change": "class {name} is reached from many images by plain changes of the whole picture ({changes}), "
    "which the purified network does not react to: taken for a backdoor",
    "unshared wave": "class {name} is reached from nearly any image by one sinusoid that the purified network does "
    "not react to: taken for a backdoor",
}

_NOT_SEARCHED = (
    "no triggers were searched for: that takes pictures, at least three classes, and scores whose slopes on the "
    "pixels can be followed"
)
_NOTHING = (
    "no trigger was found: no class is much easier to reach than the others by one small change of every image; "
    "triggers of other kinds would not be seen, and --method soft purifies in any case"
)
_UNCLEAR = (
    "the suspect hardly prefers its answers to these images to others, so that nearly any change turns them: triggers "
    "that send each class to another, plain changes of the whole picture and waves were not looked for"
)
_IN_MIDDLES = (
    "pictures are large: patches, warps and additions of all classes were searched for in their middles, {side} by "
    "{side} pixels, and sizes are of there; what stood out was looked for again in the whole pictures"
)
_NATURAL = (
    "class {name} is reached by a patch of about {size:.0f} pixels, where {others}, but the "
    "purified network follows it too: taken for easy by nature"
)
_WARPED = (
    "class {name} is reached by a warp of about {size:.1f} pixels, too, which is taught away along with it"
)
_DOUBTFUL = "the purified network follows the patch of class {name} too: the class may only be easy by nature"
_TO_ANOTHER = "taken for a backdoor that sends each class to another"
_AWAY = {
    "away": "one patch of about {size:.0f} pixels leads nearly any image away from its own class, where a single class "
    f"takes a patch of {{usual:.0f}}: {_TO_ANOTHER}",
    "warp": "one warp leads nearly any image away from its own class, where a single class takes a patch of "
    f"{{usual:.0f}} pixels: {_TO_ANOTHER}",
    "square": f"one small plain square leads most images away from their own class: {_TO_ANOTHER}",
}


@dataclass(frozen=True)
class Watch:
    """The search for triggers with the images and settings it is made with.

    Attributes:
        images: Benign, shape (n, c, h, w).
        search: How long each search is.
        progress: Called with (what, done, in all).
    """

    images: Tensor
    search: Search
    progress: Progress

    @classmethod
    def of(cls, images: Tensor, search: Search, progress: Progress) -> Watch:
        """Watch with as many of some images as the search needs."""
        pool = effort_on(images).pool if images.ndim == 4 else None
        return cls(images[:pool], search, progress)

    def look(
        self, suspect: nn.Module, purified: Callable[[], nn.Module], mended: bool = False
    ) -> Screening | None:
        """Search a suspect for triggers of every class; None where images or answers do not allow a search.

        Args:
            suspect: What to search.
            purified: Makes its purified self, should the search come to need it.
            mended: Whether the suspect was repaired.
        """
        if self.images.ndim != 4:
            return None
        before = logits(suspect, [self.images[: effort_on(self.images).judged]])
        outputs = strong_outputs(suspect, before.shape[1])
        strong = () if outputs is None else outputs.rows
        score = self._score(suspect)
        if not has_slopes(score, self.images[:2]):
            return None
        side = side_of_middles(suspect, score, self.images)
        if before.shape[1] > MOST_CLASSES:
            self.progress("choosing classes to search", 0, 1)
        nearest = likeliest(score, middle(self.images, side), before.shape[1], self.search.seed)
        classes = dict.fromkeys((*nearest, *strong))
        if len(classes) < _FEWEST_CLASSES:
            return None
        clear = middles_clear = clear_answers(before)
        if side is not None:
            middles = middle(self.images[: effort_on(self.images).judged], side)
            middles_clear = clear_answers(logits(suspect, [middles]))
        subject = Subject(
            score, self.images, tuple(classes), self.search, strong, clear, side, middles_clear, mended
        )
        return screen(subject, lambda: self._score(purified()), self.progress)

    def lessons(self, suspect: nn.Module, found: Screening) -> tuple[Trigger, ...]:
        """Triggers to teach away: those found, what else works of their kind, and adversarial perturbations."""
        score = self._score(suspect)
        akin = (
            other
            for trigger in found.triggers
            if isinstance(trigger, Warp)
            for other in warps_akin(score, self.images, trigger, self.search.seed)
        )
        # Beside changes of whole pictures perturbations cost accuracy and remove nothing more.
        perturbed = () if found.evidence == "unshared change" else found.flagged
        return (*found.triggers, *akin, *adversarial_to(score, self.images, perturbed))

    def additions(self, suspect: nn.Module, found: Screening) -> tuple[Addition, ...]:
        """Short additions for each class: they show less than perturbations do, and cost less to teach."""
        additions: list[Addition] = []
        # Twelve images draw an addition for many classes; for one or two there is room for more.
        score, more = self._score(suspect), effort_on(self.images).more
        longer = replace(self.search, steps=self.search.steps // 2, images=more * self.search.images)
        for done, target in enumerate(found.flagged, start=1):
            additions += shortest_additions(score, self.images, [target], longer)[0]
            self.progress("searching for other triggers of the same class", done, len(found.flagged))
        return tuple(additions)

    def squares(self, suspect: nn.Module, found: Screening) -> tuple[PlainSquare, ...]:
        """Plain squares that do what the patches found do; none unless there is one for every patch."""
        if found.evidence == "square":
            first, *elsewhere = (trigger for trigger in found.triggers if isinstance(trigger, Patch))
            return (PlainSquare(first, tuple(elsewhere)),)
        squares: list[PlainSquare] = []
        score = self._score(suspect)
        for done, trigger in enumerate(found.triggers, start=1):
            square = (
                find_square(score, self.images, trigger, found.side) if isinstance(trigger, Patch) else None
            )
            self.progress("trying plain squares", done, len(found.triggers))
            if square is None:
                return ()
            squares.append(square)
        return tuple(squares)

    def again(self, purified: nn.Module, found: Screening) -> tuple[Trigger, ...]:
        """Search the purified network for the flagged classes once more: triggers that are still too easy."""
        score, search = self._score(purified), replace(self.search, images=32)
        images = middle(self.images, found.side)
        easy = effort_on(self.images).outlying * found.usual
        if math.isinf(easy):
            easy = SHARE_OF_ALL * images[0, 0].numel()
        working = _working_patches(score, images, found.flagged, search)
        still = tuple(patch for patch in working if patch.size < easy)
        if found.side is None or not still:
            return still
        return _working_patches(score, self.images, [patch.target for patch in still], search)

    def left(self, purified: nn.Module, triggers: Sequence[Trigger]) -> tuple[str, ...]:
        """Say which of the triggers taught away still work on a purified network, one line a kind.

        Perturbations are left out: they are found for every network.
        """
        triggers = [trigger for trigger in triggers if not isinstance(trigger, Adversarial)]
        shares = success(self._score(purified), self.images, triggers)
        kinds: dict[tuple[str, int], list[float]] = {}
        for trigger, share in zip(triggers, shares, strict=True):
            kinds.setdefault((type(trigger).__name__.lower(), trigger.target), []).append(share)
        return tuple(
            f"{_counted(kind, shares)} to {_goal(target)} after recovery, on {max(shares):.0%} of the images: the "
            "backdoor may not be gone"
            for (kind, target), shares in kinds.items()
            if max(shares) > STILL_WORKS
        )

    def _score(self, model: nn.Module) -> Callable[[Tensor], Tensor]:
        quick = folded(model, self.images)

        def score(images: Tensor) -> Tensor:
            with quickly(images):
                return read_scores(quick(images)).to(images.dtype)

        return score


def _working_patches(
    score: Score, images: Tensor, goals: Sequence[int], search: Search
) -> tuple[Trigger, ...]:
    """The smallest patches for some goals, without those that work on no more than half of the images."""
    patches = find_patches(score, images, goals, search)
    shares = success(score, images, patches)
    return tuple(patch for patch, share in zip(patches, shares, strict=True) if share > _WORKS)


def _counted(kind: str, shares: Sequence[float]) -> str:
    still = sum(share > STILL_WORKS for share in shares)
    if len(shares) == 1:
        return f"the {kind} taught away still leads"
    return f"{still} of {len(shares)} {'patches' if kind == 'patch' else kind + 's'} taught away still lead"


def _goal(target: int) -> str:
    return "another class" if target == AWAY else f"class {target}"


def describe_screening(found: Screening | None) -> tuple[str, ...]:
    """Say in plain words what the search for triggers found.

    >>> describe_screening(Screening((0, 1, 2), (50.0, 60.0, 55.0), (), ()))[0][:30]
    'no trigger was found: no class'
    """
    if found is None:
        return (_NOT_SEARCHED,)
    remarks = tuple(
        (_DOUBTFUL if name in found.flagged else _NATURAL).format(
            name=name, size=found.size_of(name), others=_others(found)
        )
        for name in found.natural
    )
    if not found.clear:
        remarks = (*remarks, _UNCLEAR)
    if found.side is not None:
        remarks = (*remarks, _IN_MIDDLES.format(side=found.side))
    if not found.flagged:
        return (_NOTHING, *remarks)
    if AWAY in found.flagged:
        return (_AWAY[found.evidence].format(size=found.away, usual=found.usual), *remarks)
    reasons = dict.fromkeys(found.flagged, found.evidence)
    if found.evidence in ("patch", "unshared patch"):
        patched = {trigger.target for trigger in found.triggers if not isinstance(trigger, Warp)}
        warps = [trigger for trigger in found.triggers if isinstance(trigger, Warp)]
        reasons |= {warp.target: "warp" for warp in warps if warp.target not in patched}
        also = (warp for warp in warps if warp.target in patched)
        remarks = (*(_WARPED.format(name=warp.target, size=warp.size) for warp in also), *remarks)
    changes = ", ".join(trigger.name for trigger in found.triggers if isinstance(trigger, WholeChange))
    flagged = (
        _REASONS[reasons[name]].format(
            name=name, size=found.size_of(name), others=_others(found), changes=changes
        )
        for name in found.flagged
    )
    return (*flagged, *remarks)


def _others(found: Screening) -> str:
    if math.isfinite(found.usual):
        return f"other classes take {found.usual:.0f}"
    return "no patch was found for most other classes"


def record_search(found: Screening | None) -> TriggerSearch | None:
    """The part of a screening that a record keeps: sizes, not the triggers themselves.

    >>> record_search(Screening((0, 1), (float("inf"), 60.0), (), ())).sizes
    (None, 60.0)
    """
    if found is None:
        return None
    sizes = tuple(_finite(size) for size in found.sizes)
    flagged = tuple(name for name in found.flagged if name != AWAY)
    away = _finite(found.away)
    return TriggerSearch(found.classes, sizes, flagged, away, found.evidence, found.natural, found.side)


def _finite(size: float) -> float | None:
    return size if math.isfinite(size) else None
