"""`purify`: a contaminated network and benign images in, a purified network and an honest account out."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version

import torch
from torch import Tensor, nn

from depurate.analysis import after_repair, same_anchor, thin_ground, with_mended
from depurate.networks import unwrapped
from depurate.purification.asked import check_networks, check_settings
from depurate.purification.backdoor import Watch
from depurate.purification.copies import like_the_original, rounding_of
from depurate.purification.distillation import Distillation
from depurate.purification.doubts import without_doubtful
from depurate.purification.findings import record_search
from depurate.purification.listing import first_names
from depurate.purification.plain import uncovered
from depurate.purification.plan import Plan, finish, make_plan
from depurate.purification.prepared import prepare
from depurate.purification.refining import refine
from depurate.purification.repaired import look_behind
from depurate.purification.result import PurifyResult
from depurate.purification.run import Progress, Run
from depurate.recovery import Agreement, Guarantee, Guessed, LayerRecord, PurifyRecord, Recipe, Rounding
from depurate.spans import Sampling, plain_modes
from depurate.triggers import Search

_MENDED = (
    "{hit:,} running statistics of normalisations contradict the benign images, where all others fit ({names}): they "
    "were estimated anew, and all else was done with these"
)


# A network that draws at random must not move the caller's own draws.
@torch.random.fork_rng(devices=[])
@plain_modes()
def purify(
    model: nn.Module,
    images: Tensor | Iterable[object],
    anchor: nn.Module | Mapping[str, Tensor] | None = None,
    method: str = "auto",
    strength: float | None = None,
    progress: Progress | None = None,
    *,
    distil: bool = False,
    seed: int = 0,
    max_images: int = 2000,
    rounding: float | Mapping[str, Rounding] | None = None,
) -> PurifyResult:
    """Purify a contaminated network with unlabelled clean images.

    Layers are recovered in forward order, each on the patches that clean images make in the purified layers before
    it: exactly where the span of the patches leaves room and a certificate proves it, entry by entry where the
    weights show sparse noise or damage, softly otherwise.

    Args:
        model: The suspect; never modified. Convolutions, dense layers and BatchNorm statistics are recovered, on
            whatever device they are; other parameters are left alone and named in the account.
        images: Clean images as the network takes them (floats, normalised), shape (n, c, h, w), or an iterable of
            batches or of (batch, labels) pairs; labels are ignored. Bytes of 0 to 255 (uint8) are refused:
            divide them by 255.
        anchor: What training started from (initialisation or base model), as a network or a state dict; None when
            unknown, which counts as zero.
        method: `auto`, `exact` (the paper's l1 recovery, layer by layer), `soft` (closed form) or `robust` (entries
            that do not fit the rest of their layer are found and filled in).
        strength: λ of the soft recovery, over 0; None chooses it by agreement on held-back images. `auto` uses it
            where it finds a backdoor.
        progress: Called with (what is being done, steps done, steps in all).
        distil: Refine a recovery that triggers were taught away in: train its layers together, without labels, to
            answer varied benign images as the suspect does and not to follow the triggers. Takes longer.
        seed: Of every random choice: which images are held back, which patches are looked at.
        max_images: A random sample of this many, 10 or more, is used when more are given.
        rounding: Of the weights, below which exact recovery takes a difference for none: a number, relative to the
            updates, or what `rounding_of` gives for the tensors as they were stored. None takes that of the
            network's and the anchor's precision, layer by layer, which is wrong where they were loaded from
            coarser numbers.

    Returns:
        The purified network and the account.

    Raises:
        InputError: Network, images, anchor or settings do not fit each other; the message names what and where.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        >>> result = purify(net, torch.rand(60, 1, 8, 8), method="soft", strength=0.1)
        >>> [(layer.name, layer.method) for layer in result.layers]
        [('0', 'soft'), ('3', 'soft')]

    Source: arXiv 2407.11031 (exact recovery); Hoerl & Kennard, Technometrics 12 (1970)
        (soft recovery, ridge regression towards the anchor).
    """
    started = time.perf_counter()
    check_networks(model, anchor)
    check_settings(method, strength, distil=distil)
    ready = prepare(model, images, anchor, method, limit=max_images, seed=seed)
    run = Run(ready.working, ready.anchor, ready.sites, ready.benign, progress or _silent)
    recipe_at = partial(
        Recipe,
        method,
        rounding=rounding_of(model, anchor) if rounding is None else rounding,
        sampling=Sampling(seed=seed),
        damaged=ready.damaged,
        guessed=ready.guessed,
    )
    watch = Watch.of(ready.benign.images, Search(seed=seed), run.progress)
    plan = make_plan(run, watch, method, strength, recipe_at)
    done, run, left = finish(plan, watch)
    done, withdrawn = without_doubtful(run, plan.recipe, done)
    repaired: tuple[LayerRecord, ...] = ()
    replaced = (*(guess.what for guess in ready.guesses), *done.scales)
    behind = look_behind(plan, run, done, watch, recipe_at, strength)
    if behind.run.suspect is not run.suspect:
        repaired, left = done.layers, (*left, *done.remarks)
        done, run, more = finish(behind, watch)
        left = (*left, *more)
    plan = behind
    if distil:
        plan, done, left = refine(plan, run, done, left, watch, Distillation(seed=seed))
    layers = after_repair(done.layers, repaired, ready.working, done.purified)
    layers = with_mended(layers, ready.mended, unwrapped(model), done.purified)
    guessed = _by_name(replaced)
    untouched = uncovered(unwrapped(model), done.purified, ready.sites)
    sizes = {name: parameter.numel() for name, parameter in unwrapped(model).named_parameters()}
    record = PurifyRecord(
        method=method,
        guarantee=_weakest(layers, guessed),
        anchor="given" if anchor is not None else "unknown (zero)",
        images=done.images,
        layers=layers,
        agreement=_agreement(plan),
        trials=plan.trials,
        untouched=untouched,
        untouched_entries=sum(sizes[name] for name in untouched),
        entries=sum(sizes.values()),
        guessed=guessed,
        # A search that could not be made is told of once, also where a repaired network was to be searched again.
        warnings=tuple(
            dict.fromkeys(
                (
                    *plan.warnings,
                    *left,
                    *withdrawn,
                    *ready.said,
                    *(guess.said for guess in ready.guesses),
                    *_of_mended(ready.mended),
                    *done.remarks,
                    *run.signatures(done.purified if plan.recipe.repairs else done.suspect),
                    *same_anchor(ready.working, ready.anchor, ready.sites),
                    *thin_ground(done.layers),
                )
            )
        ),
        versions={name: version(name) for name in ("depurate", "torch")}
        | {"python": platform.python_version()},
        seconds=time.perf_counter() - started,
        search=record_search(plan.screening),
        strength=strength,
    )
    return PurifyResult(like_the_original(model, done.purified), record)


def _of_mended(mended: Mapping[str, Tensor]) -> tuple[str, ...]:
    if not mended:
        return ()
    hit = sum(int(mask.sum()) for mask in mended.values())
    return (_MENDED.format(hit=hit, names=first_names(mended)),)


def _agreement(plan: Plan) -> Agreement | None:
    # A recovery without a strength fits nothing to the images, so there is nothing to check on others.
    if not plan.run.benign.held_back or plan.recipe.strength is None:
        return None
    chosen = next((trial.agreement for trial in plan.trials if trial.chosen), None)
    return chosen or plan.run.attempt(plan.recipe, "checking on held-back images")


def _by_name(guesses: Iterable[Guessed]) -> tuple[Guessed, ...]:
    """One for each tensor, of those that were looked at twice."""
    found: dict[str, Guessed] = {}
    for guess in guesses:
        before = found[guess.name].hit if guess.name in found else 0
        found[guess.name] = replace(guess, hit=min(before + guess.hit, guess.entries))
    return tuple(found.values())


def _weakest(layers: tuple[LayerRecord, ...], guessed: tuple[Guessed, ...]) -> Guarantee:
    """The weakest guarantee over the layers, and other parameters, that were changed."""
    order = list(Guarantee)
    changed = [layer.guarantee for layer in layers if layer.guarantee is not Guarantee.UNCHANGED]
    changed += [Guarantee.APPROXIMATE] * bool(guessed)
    return max(changed, key=order.index, default=Guarantee.UNCHANGED)


def _silent(what: str, done: int, total: int) -> None:
    """Progress nobody asked for."""
