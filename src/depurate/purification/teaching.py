"""How triggers are taught away: gently where a plain square explains them, else with perturbations, else additions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from depurate.analysis import logits
from depurate.purification.backdoor import STILL_WORKS, Watch
from depurate.purification.finished import Finished, Rehearsal
from depurate.purification.latest import Latest
from depurate.purification.run import Run
from depurate.recovery import Agreement, Recipe, Trial, limit_outputs, strong_outputs
from depurate.triggers import (
    Addition,
    Adversarial,
    Patch,
    PlainSquare,
    Screening,
    Trigger,
    effort_on,
    telling,
)

RecipeOf = Callable[[float], Recipe]
_WITHOUT = (
    "pictures are large: the network was recovered once, without the {held_back} images it was checked on"
)

# A square is hardly ever the planted trigger by chance: few images and little strength are enough, and cost least.
_GENTLE_STRENGTHS = (0.003, 0.01, 0.03)
_GENTLE_SHARE = 0.3
_GENTLE_THIN = 10.0
# How often the square, or the same elsewhere, may still work: other images turn on that many by themselves.
_SQUARES_LEFT = 0.05
# Share of the images that carry each trigger, perturbations too, and strength.
_SHARE, _STRENGTH = 0.3, 0.03
# Of large pictures: an EfficientNet-Lite0 lost 0.2 points with it where it lost 1.9 with the other, and kept 9 % for 6.
_STRENGTH_ON_LARGE = 0.01
# All of them, where perturbations computed for the suspect still turn the purified network on more than this and that
# costs no more.
_TRANSFERS = 0.04
# Expected loss that is tolerated, without a fifth of the images, and how often what was found may still work.
_LOSS, _STILL_THERE = 0.015, 0.3
# Where perturbations cost more: additions in their place, on shares of the images and at strengths, hardest first.
_STEPS = ((1.0, 0.1), (0.3, 0.1), (0.1, 0.1), (0.1, 0.03))
# Changes of whole pictures are taught on few: healthy networks follow them, too. On two networks that rotations trigger
# three tenths of the images cost 2 to 3 points more and left as much; on two that sinusoids trigger, 1 to 2 more.
_CHANGED_SHARE = 0.1
# Output weights that stand out are recovered alone; a strength of 0.1 did as well on the two networks at hand.
_ROW_STRENGTH, _ROW_SHARE = 0.03, 0.3
# Tampering has changed answers, and so does undoing it: more may change here, by the confidence of the suspect.
_LOSS_IN_ROWS = 0.05
# Where all of that costs more, triggers that differ from image to image may go by recovery alone, which costs less.
_UNTAUGHT_STRENGTH = 0.1
# What is left otherwise: as few images as the triggers taught are gone with.
_LEAST_STRENGTH, _LEAST_SHARES = 0.01, (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Teaching:
    """What is to be taught, and how it was chosen.

    Attributes:
        run: The network with its images, the triggers and the share of the images that carry them.
        trials: What was tried, one of it chosen.
        recipe: To teach with.
        said: What was learnt of the triggers, in plain words.
        done: The recovery itself, where it was made to choose.
        transfers: Share of the images held back that perturbations computed for the suspect still turn to a class.
    """

    run: Run
    trials: tuple[Trial, ...]
    recipe: Recipe
    said: tuple[str, ...] = ()
    done: Finished | None = None
    transfers: float = 0.0


def choose_teaching(run: Run, watch: Watch, found: Screening, recipe_of: RecipeOf) -> Teaching:
    """Choose triggers, share and strength, each judged without a part of the images on that part.

    Args:
        run: The suspect with images enough to hold some back.
        watch: Finds triggers.
        found: What was flagged.
        recipe_of: The recipe of a strength.

    Returns:
        The choice.
    """
    if found.evidence == "unshared change":
        changed = replace(run, triggers=watch.lessons(run.suspect, found), share=_CHANGED_SHARE)
        only = _attempt(changed, recipe_of, _STRENGTH, changed.triggers)
        return _taken([only], only, recipe_of)
    squares = watch.squares(run.suspect, found)
    precise = effort_on(run.benign.images).precise
    lessons = watch.lessons(run.suspect, found)
    gentle = _gently(run, squares, found, lessons, recipe_of) if squares and precise else None
    if gentle is not None and gentle.transfers <= _TRANSFERS:
        return gentle
    if gentle is None and found.evidence == "output weights":
        in_rows = _in_rows(run, found.flagged, lessons, recipe_of)
        if in_rows is not None:
            return in_rows
    everywhere = _everywhere(squares)
    before = () if gentle is None else gentle.trials
    share = _CHANGED_SHARE if found.evidence in ("wave", "unshared wave") else _SHARE
    perturbing = replace(_all(run, everywhere, lessons), share=share)
    strength = _STRENGTH if precise else _STRENGTH_ON_LARGE
    first = _attempt(perturbing, recipe_of, strength, perturbing.triggers)
    if first.bearable:
        # Of large pictures every attempt is a recovery of a minute, and all images left as much there as three tenths.
        taken = _on_all(first, recipe_of) if precise else _taken([first], first, recipe_of)
        return _after(before, taken)
    before = (*before, first.trial())
    if gentle is not None:
        return replace(gentle, trials=before)
    cheaper = [trigger for trigger in lessons if not isinstance(trigger, Adversarial)]
    # Many squares like the planted one leave nothing for additions to teach, and on large pictures these take longest.
    additions = () if squares and not precise else watch.additions(run.suspect, found)
    return _after(before, _firmly(_all(run, everywhere, cheaper, additions), recipe_of))


def _in_rows(
    run: Run, flagged: Sequence[int], triggers: tuple[Trigger, ...], recipe_of: RecipeOf
) -> Teaching | None:
    """Limit the output weights that stand out to what is ordinary and recover these rows alone; None if that hurts."""
    seen = strong_outputs(run.suspect, logits(run.suspect, run.benign.to_try()).to(run.benign.images))
    if seen is None or not set(flagged) & set(seen.rows):
        return None
    strong = replace(seen, rows=tuple(row for row in seen.rows if row in flagged))
    limited, beyond = limit_outputs(run.suspect, strong)
    taught = replace(run, suspect=limited, triggers=triggers, share=_ROW_SHARE, latest=Latest())
    recipe = replace(recipe_of(_ROW_STRENGTH), only={strong.layer: strong.rows})
    tried = taught.rehearse(recipe, "recovering output weights", (), run.suspect)
    if tried.agreement.expected_loss + tried.agreement.loss_error > _LOSS_IN_ROWS:
        return None
    trial = Trial(_ROW_STRENGTH, tried.agreement, chosen=True, share=_ROW_SHARE)
    said = (
        f"{strong.layer}: {beyond:,} output weights of the classes flagged lay beyond what other classes show and were "
        "limited to it; only the output weights of these classes were recovered"
    )
    return Teaching(taught, (trial,), recipe, (said,), tried.done)


def _gently(
    run: Run,
    squares: Sequence[PlainSquare],
    found: Screening,
    lessons: Sequence[Trigger],
    recipe_of: RecipeOf,
) -> Teaching | None:
    """Teach the squares alone, at the least strength that costs no more than others; None if more is left.

    What was not taught is the test: the same squares elsewhere and the patches that descent had found. Other strengths
    are not tried where perturbations still work.
    """
    run = replace(run, triggers=tuple(plain.square for plain in squares), share=_GENTLE_SHARE)
    alike = _everywhere(squares)
    perturbed = [trigger for trigger in lessons if isinstance(trigger, Adversarial)]
    recipes = [replace(recipe_of(strength), thin=_GENTLE_THIN) for strength in _GENTLE_STRENGTHS]
    trials: list[Trial] = []
    transfers: list[float] = []
    for strength, recipe in zip(_GENTLE_STRENGTHS, recipes, strict=True):
        what = f"teaching plain squares at strength {strength}"
        checked = (*alike, *found.triggers, *perturbed)
        tried = run.rehearse(recipe, what, checked)
        left = dict(zip(checked, tried.left, strict=True))
        if _most(left, alike) > _SQUARES_LEFT or _most(left, found.triggers) > STILL_WORKS:
            return None
        trials.append(Trial(strength, tried.agreement, chosen=False, share=_GENTLE_SHARE))
        transfers.append(_most(left, filter(telling, perturbed)))
        if transfers[-1] > _TRANSFERS:  # no strength left less: 73 to 80 % where the first left as much
            break
    least = min((trial.agreement for trial in trials), key=lambda agreement: agreement.expected_loss)
    enough = least.expected_loss + least.loss_error
    best = next(place for place, trial in enumerate(trials) if trial.agreement.expected_loss <= enough)
    chosen = tuple(replace(trial, chosen=place == best) for place, trial in enumerate(trials))
    return Teaching(run, chosen, recipes[best], tuple(map(_described, squares)), transfers=transfers[best])


def _on_all(first: _Attempt, recipe_of: RecipeOf) -> Teaching:
    """What was tried, or the same with all images where that leaves too much and all cost no more."""
    if first.transfers <= _TRANSFERS:
        return _taken([first], first, recipe_of)
    more = _attempt(replace(first.run, share=1.0), recipe_of, first.strength, first.run.triggers)
    better = more.good and _no_dearer([first.tried.agreement, more.tried.agreement])
    return _taken([first, more], more if better else first, recipe_of)


def _after(before: Sequence[Trial], taken: Teaching) -> Teaching:
    """A choice with the trials that were made before it."""
    return replace(taken, trials=(*(replace(trial, chosen=False) for trial in before), *taken.trials))


def _most(left: Mapping[Trigger, float], triggers: Iterable[Trigger]) -> float:
    """How often the one of some triggers that is left most still works."""
    return max((left[trigger] for trigger in triggers), default=0.0)


def _firmly(run: Run, recipe_of: RecipeOf) -> Teaching:
    """Teach as many images at as much strength as costs little: the planted trigger is not the one that was found."""
    attempts: list[_Attempt] = []
    # Of large pictures an attempt takes a minute.
    hasty = effort_on(run.benign.images).keeps
    for share, strength in _STEPS:
        if hasty and _too_dear(attempts, strength):
            continue
        attempts.append(_attempt(replace(run, share=share), recipe_of, strength, run.triggers))
        if attempts[-1].good:
            return _taken(attempts, attempts[-1], recipe_of)
    if not (hasty and _too_dear(attempts, _UNTAUGHT_STRENGTH)):
        attempts.append(_attempt(replace(run, triggers=()), recipe_of, _UNTAUGHT_STRENGTH, run.triggers))
        known = any(not isinstance(trigger, Addition) for trigger in run.triggers)
        if known and attempts[-1].gone and _no_dearer([attempt.tried.agreement for attempt in attempts]):
            return _taken(attempts, attempts[-1], recipe_of)
    for share in _LEAST_SHARES:
        attempts.append(_attempt(replace(run, share=share), recipe_of, _LEAST_STRENGTH, run.triggers))
        if attempts[-1].gone and attempts[-1].added <= STILL_WORKS:
            break
    return _taken(attempts, attempts[-1], recipe_of)


def _too_dear(attempts: Sequence[_Attempt], strength: float) -> bool:
    """Whether a strength surely cost twice what is tolerated already, whatever was taught with it."""
    agreements = [attempt.tried.agreement for attempt in attempts if attempt.strength <= strength]
    return any(agreement.expected_loss - agreement.loss_error > 2 * _LOSS for agreement in agreements)


def _all(run: Run, *triggers: Sequence[Trigger]) -> Run:
    return replace(run, triggers=tuple(dict.fromkeys(itertools.chain(*triggers))))


@dataclass(frozen=True)
class _Attempt:
    """A rehearsal: how it was made, and on how many of the images held back each kind of trigger still works.

    Attributes:
        run: With what was taught.
        strength: λ.
        tried: The rehearsal.
        planted: What may be much like the planted trigger; others work on healthy networks, too.
        added: Additions.
        transfers: Perturbations computed for the suspect.
    """

    run: Run
    strength: float
    tried: Rehearsal
    planted: float
    added: float
    transfers: float

    @property
    def good(self) -> bool:
        return self.tried.agreement.expected_loss <= _LOSS and self.planted <= _STILL_THERE

    @property
    def bearable(self) -> bool:
        """Whether it is not sure to cost more than is tolerated.

        Where it is not, additions are taught, and these left far more: 67 % of a watermark where perturbations left 12.
        """
        agreement = self.tried.agreement
        return agreement.expected_loss - agreement.loss_error <= _LOSS and self.planted <= _STILL_THERE

    @property
    def gone(self) -> bool:
        return self.planted <= STILL_WORKS

    def trial(self, *, chosen: bool = False) -> Trial:
        share = self.run.share if self.run.triggers else 0.0
        return Trial(self.strength, self.tried.agreement, chosen=chosen, share=share)


def _attempt(run: Run, recipe_of: RecipeOf, strength: float, triggers: Sequence[Trigger]) -> _Attempt:
    how = f"teaching with {run.share:.0%} of the images" if run.triggers else "recovering without teaching"
    tried = run.rehearse(recipe_of(strength), f"{how} at strength {strength}", triggers)
    left = dict(zip(triggers, tried.left, strict=True))
    added = [trigger for trigger in triggers if isinstance(trigger, Addition)]
    perturbed = [trigger for trigger in triggers if isinstance(trigger, Adversarial)]
    planted = left.keys() - {*added, *perturbed}
    kinds = (planted, added, filter(telling, perturbed))
    return _Attempt(run, strength, tried, *(_most(left, some) for some in kinds))


def _no_dearer(agreements: Sequence[Agreement]) -> bool:
    """Whether the last costs no more than the cheapest before it, within the error of their difference."""
    *before, last = agreements
    least = min(before, key=lambda agreement: agreement.expected_loss)
    return last.expected_loss - least.expected_loss <= math.hypot(least.loss_error, last.loss_error)


def _taken(attempts: Sequence[_Attempt], best: _Attempt, recipe_of: RecipeOf) -> Teaching:
    trials = tuple(attempt.trial(chosen=attempt is best) for attempt in attempts)
    done = best.tried.done
    said = () if done is None else (_WITHOUT.format(held_back=best.run.benign.held_back),)
    return Teaching(best.run, trials, recipe_of(best.strength), said, done, best.transfers)


def _everywhere(squares: Sequence[PlainSquare]) -> tuple[Patch, ...]:
    return tuple(square for plain in squares for square in (plain.square, *plain.elsewhere))


def _described(plain: PlainSquare) -> str:
    rows, columns = plain.square.mask[0].nonzero()[0].tolist()
    side = round(plain.square.size**0.5)
    return (
        f"a plain square of {side} by {side} pixels at row {rows}, column {columns} does the same: only that was "
        "taught away"
    )
