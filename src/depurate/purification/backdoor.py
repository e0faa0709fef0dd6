"""Whether a suspect carries a backdoor that benign images can show, and the triggers that teach it away."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from depurate.analysis import logits, read_scores
from depurate.purification.quick import coarsely, folded
from depurate.recovery import strong_outputs
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
    adversarial_to,
    clear_answers,
    effort_on,
    find_patches,
    find_square,
    has_slopes,
    likeliest,
    middle,
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
        outputs = strong_outputs(suspect, before.to(self.images))
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
        found = screen(subject, lambda: self._score(purified()), self.progress)
        return replace(found, known=before.shape[1])

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
        coarse = coarsely(quick, self.images)

        def score(images: Tensor) -> Tensor:
            with coarse():
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
