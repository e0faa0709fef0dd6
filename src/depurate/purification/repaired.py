"""A repaired network is searched for a backdoor, too: damage hides one, and a repair restores it."""

from __future__ import annotations

from dataclasses import replace

from depurate.purification.backdoor import Watch
from depurate.purification.doubts import guessed_behind
from depurate.purification.finished import Finished
from depurate.purification.latest import Latest
from depurate.purification.plan import Plan, RecipeAt, against_a_backdoor
from depurate.purification.run import Run
from depurate.recovery import Guarantee, Recipe

_BEHIND = (
    "a backdoor was looked for in the repaired network, and what follows was found there; --method robust only "
    "repairs"
)
_PERHAPS_NONE = (
    "as that repair had to be undone, the weights may hold no noise at all, only tails of their own: a backdoor was "
    "looked for in the network without it, and noise that is left in it would pass for one"
)


def look_behind(
    plan: Plan, run: Run, done: Finished, watch: Watch, recipe_at: RecipeAt, strength: float | None
) -> Plan:
    """Plan what is to be done about a network that was repaired.

    Args:
        plan: That was carried out.
        run: Its run.
        done: Its outcome.
        watch: Looks for triggers.
        recipe_at: The recipe of a strength.
        strength: λ, or None to choose it.

    Returns:
        A plan against the backdoor of the repaired network, its run's suspect, or else the plan given, with what the
        search has shown, where one was made: after repairs, by `auto` only.
    """
    if plan.recipe.method != "auto" or not plan.recipe.repairs or plan.screening is not None:
        return plan
    repaired = replace(run, suspect=done.purified, latest=Latest())
    estimated = guessed_behind(run, done)

    def behind_estimates(candidate: float | None) -> Recipe:
        recipe = recipe_at(candidate)
        return replace(recipe, guessed=recipe.guessed | estimated)

    changed = bool(done.scales) or any(layer.guarantee is not Guarantee.UNCHANGED for layer in done.layers)
    mended = changed and not done.noisy
    behind = against_a_backdoor(repaired, watch, strength, behind_estimates, mended=mended)
    warnings = (*plan.warnings, _PERHAPS_NONE) if done.noisy else plan.warnings
    if behind.screening is not None and behind.screening.flagged:
        warnings = (*warnings, _BEHIND) if mended else warnings
        return replace(behind, warnings=(*warnings, *behind.warnings))
    return replace(plan, warnings=(*warnings, *behind.warnings), screening=behind.screening)
