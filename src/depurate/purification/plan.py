"""The plan of a purification: what the evidence calls for, and at which strength."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from depurate.purification.backdoor import Watch
from depurate.purification.findings import describe_screening
from depurate.purification.finished import Finished
from depurate.purification.harm import unharmed
from depurate.purification.noise import SparseNoise, Verdict, look_for_noise
from depurate.purification.run import Run
from depurate.purification.strength import DEFAULT_STRENGTH, choose_strength
from depurate.purification.teaching import choose_teaching
from depurate.recovery import Agreement, Recipe, Trial
from depurate.triggers import Screening

RecipeAt = Callable[[float | None], Recipe]

# Below this, most backdoors measured so far kept more than a tenth of their success where no trigger was taught away.
_FIRM_STRENGTH = 0.1
_ROUNDS = 2
# At this strength hardly any backdoor of the zoo's was left, which is what the purified self is compared for.
_REFERENCE = 0.3
_TREATED_AS_DAMAGE = (
    "entries that no training produces were found, so this was treated as damaged memory: entries taken for hit were "
    "replaced"
)
_TREATED_AS_SPARSE = (
    "the weights show sparse noise ({sign}), so a repair was made that does not use what the suspect computes: entries "
    "taken for hit are replaced"
)
_NOT_LOOKED = "no backdoor was looked for: that is done by the auto method"
_BY_NUMBERS = "about {share:.1%} of them by their numbers alone"
_BY_REPAIR = (
    "with the entries replaced that do not fit, the network tells the images apart far better: {before:.2f} to "
    "{after:.2f} nats"
)
_BY_NORMALISATIONS = (
    "what reaches most normalisations is far from what they kept of training, as behind changed weights, and with the "
    "entries replaced that do not fit, the network tells the images apart better: {before:.2f} to {after:.2f} nats"
)
_NOT_TOLD = (
    ". Noise no larger than the weights can mostly not be told entry by entry: most of it may be left, and new "
    "statistics of the normalisations make up for a part"
)
_PERHAPS_SPARSE = (
    "about {share:.1%} of the weights stand out by their numbers alone: sparse noise, or tails that training left; "
    "{done}"
)
_REPLACED = "as no trigger was found, they were replaced"
_REPLACED_UNSEARCHED = "as no triggers could be searched for, they were replaced"
_LEFT = "as a backdoor was found, they were left, and --method robust would replace them"


@dataclass(frozen=True)
class Plan:
    """How to recover, and what was learnt while deciding.

    Attributes:
        run: The network with its images, and the triggers to teach away.
        recipe: For every layer.
        trials: Strengths tried.
        warnings: What the user must know.
        screening: What the search for triggers found, where one was made.
        done: The final walk, where deciding took it already.
    """

    run: Run
    recipe: Recipe
    trials: tuple[Trial, ...] = ()
    warnings: tuple[str, ...] = ()
    screening: Screening | None = None
    done: Finished | None = None


def make_plan(run: Run, watch: Watch, method: str, strength: float | None, recipe_at: RecipeAt) -> Plan:
    """Decide from the method asked for and, with `auto`, from the evidence.

    Args:
        run: The suspect, its layers and the images.
        watch: Looks for triggers.
        method: `auto`, `exact`, `soft` or `robust`.
        strength: λ, or None to choose it; `auto` uses it where a backdoor is found.
        recipe_at: The recipe of a strength.

    Returns:
        The plan.
    """
    if method == "exact" or (method == "soft" and strength is not None):
        return Plan(run, recipe_at(strength))
    if method != "soft":
        return _by_noise(run, watch, method, recipe_at, strength)
    if not run.benign.held_back:
        said = f"too few images to choose a strength: {DEFAULT_STRENGTH} was used"
        return Plan(run, recipe_at(DEFAULT_STRENGTH), warnings=(said,))
    trials = choose_strength(*_attempts(run, recipe_at))
    return Plan(run, recipe_at(_chosen(trials)), trials, _weakness(_chosen(trials)))


def finish(plan: Plan, watch: Watch) -> tuple[Finished, Run, tuple[str, ...]]:
    """Walk as planned, and again with more to teach while the classes found stay easy to trigger.

    Args:
        plan: What to do.
        watch: Looks for triggers.

    Returns:
        The outcome, the run with all that was taught, and what is left to say of triggers that still work.
    """
    done = plan.done or plan.run.final(plan.recipe)
    found, run = plan.screening, plan.run
    if found is None or not found.flagged:
        done, said = unharmed(run, plan.recipe, done)
        return done, run, said
    for _ in range(_ROUNDS):
        more = watch.again(done.purified, found)
        if not more:
            return done, run, watch.left(done.purified, run.triggers)
        run = replace(run, triggers=(*run.triggers, *more))
        done = run.final(plan.recipe)
    return done, run, watch.left(done.purified, (*run.triggers, *watch.again(done.purified, found)))


def _by_noise(run: Run, watch: Watch, method: str, recipe_at: RecipeAt, strength: float | None) -> Plan:
    """Repair damage and noise; where there is none for sure, look for a backdoor first."""
    # `auto` keeps exact recovery where it can be certified.
    recipe = replace(recipe_at(None), repair=True)
    noise = look_for_noise(run, recipe)
    recipe = replace(recipe, sparse=noise.verdict is not Verdict.NONE)
    if method == "robust" or recipe.damaged or noise.verdict is Verdict.SURE:
        said = _treated_as_sparse(noise) if recipe.sparse else _TREATED_AS_DAMAGE
        if method == "auto":
            return Plan(run, recipe, warnings=(said,))
        return Plan(run, recipe, warnings=(said, _NOT_LOOKED) if recipe.sparse else (_NOT_LOOKED,))
    plan = against_a_backdoor(run, watch, strength, recipe_at)
    if not recipe.sparse:
        return plan
    found = plan.screening
    flagged = found is not None and bool(found.flagged)
    done = _LEFT if flagged else _REPLACED_UNSEARCHED if found is None else _REPLACED
    warned = (*plan.warnings, _PERHAPS_SPARSE.format(share=noise.share, done=done))
    return replace(plan, warnings=warned) if flagged else Plan(run, recipe, (), warned, found)


def _treated_as_sparse(noise: SparseNoise) -> str:
    if noise.told is None:
        return _TREATED_AS_SPARSE.format(sign=_BY_NUMBERS.format(share=noise.share))
    before, after = noise.told
    sign = _BY_NORMALISATIONS if noise.strained else _BY_REPAIR
    said = _TREATED_AS_SPARSE.format(sign=sign.format(before=before, after=after))
    return said + _NOT_TOLD if noise.strained else said


def against_a_backdoor(
    run: Run, watch: Watch, strength: float | None, recipe_at: RecipeAt, *, mended: bool = False
) -> Plan:
    """Recover exactly where certificates hold; otherwise look for a backdoor, and choose what to teach against it.

    Args:
        run: The suspect, its layers and the images.
        watch: Looks for triggers.
        strength: λ, or None to choose it.
        recipe_at: The recipe of a strength.
        mended: Whether the suspect was repaired.

    Returns:
        The plan; nothing is changed by it where nothing is found.
    """
    # Exact recovery first: where certificates hold, nothing has to be looked for. With all images: a span that
    # lacks those held back need not hold what training did with them.
    certain = run.final(recipe_at(None), "probing")
    used = {layer.method for layer in certain.layers}
    if used <= {"exact", "filled", "statistics"}:
        return Plan(run, recipe_at(None), done=certain)
    method = "auto" if "exact" in used else "soft"

    def recipe_of(candidate: float | None) -> Recipe:
        return replace(recipe_at(candidate), method=method)

    reference = replace(recipe_at(_REFERENCE), method="soft")
    found = watch.look(run.suspect, lambda: run.reference(reference, "purifying to compare with"), mended)
    said = describe_screening(found)
    if found is not None and found.flagged:
        if strength is not None or not run.benign.held_back:
            run = replace(run, triggers=watch.lessons(run.suspect, found))
            return Plan(run, recipe_of(strength or DEFAULT_STRENGTH), (), said, found)
        taught = choose_teaching(run, watch, found, recipe_of)
        return Plan(taught.run, taught.recipe, taught.trials, (*said, *taught.said), found, taught.done)
    return Plan(run, recipe_at(None), (), said, found, certain)


def _attempts(
    run: Run, recipe_at: RecipeAt
) -> tuple[Callable[[float], Agreement], Callable[[float], Agreement]]:
    """How to try a strength quickly, on one part held back, and surely, on every part in turn."""

    def attempt(candidate: float, *, sure: bool = False) -> Agreement:
        what = f"{'confirming' if sure else 'trying'} strength {candidate}"
        return run.attempt(recipe_at(candidate), what, range(run.benign.folds) if sure else range(1))

    return attempt, partial(attempt, sure=True)


def _chosen(trials: tuple[Trial, ...]) -> float:
    return next(trial.strength for trial in trials if trial.chosen)


def _weakness(strength: float) -> tuple[str, ...]:
    if strength >= _FIRM_STRENGTH:
        return ()
    return (
        f"stronger recovery cost more accuracy than is tolerated, so a strength of only {strength:g} was used: a "
        f"backdoor may well survive it; more images allow more, and --strength {_FIRM_STRENGTH:g} or above insists",
    )
