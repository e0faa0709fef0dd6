"""Certificates withdrawn where what reaches a layer passed through numbers that look hit and were left as they are."""

from __future__ import annotations

from dataclasses import replace

from depurate.purification.finished import Finished
from depurate.purification.listing import first_names
from depurate.purification.noise import shows_noise
from depurate.purification.plain import reached_after
from depurate.purification.run import Run
from depurate.recovery import Guarantee, Recipe, contradicted, repair_scales

_AS_TRAINED = (Guarantee.EXACT, Guarantee.UNCHANGED)

_STATISTICS = (
    "{hit:,} running statistics of normalisations ({names}) contradict the benign images and were left as they are: "
    "nothing is certified in the layers behind them"
)
_SCALES = (
    "{hit:,} scales and shifts of normalisations ({names}) do not fit the others, as where they were hit, and the "
    "exact method leaves them: nothing is certified in the layers behind them; the auto method replaces them"
)


def without_doubtful(run: Run, recipe: Recipe, done: Finished) -> tuple[Finished, tuple[str, ...]]:
    """Withdraw the certificates of layers that are shown what doubtful numbers make.

    A certificate is about the clean weights only if the patches are the clean network's.

    Args:
        run: The suspect and the images.
        recipe: That it was recovered by.
        done: The recovery.

    Returns:
        The recovery, made again where certificates had to go, and what the user must know of it.
    """
    if not any(layer.certified for layer in done.layers):
        return done, ()
    statistics = contradicted(done.purified, run.sites, run.benign.all())
    doubtful = {name: int(mask.sum()) for name, mask in statistics.items()}
    said = (_STATISTICS.format(hit=sum(doubtful.values()), names=first_names(doubtful)),) if doubtful else ()
    # Where weights show sparse noise, scales and shifts may share it.
    if recipe.method == "exact" and shows_noise(run):
        repairs = repair_scales(run.suspect, run.anchor)
        scales = {name: int(repair.hits.sum()) for name, repair in repairs.items() if repair.hits.any()}
        if scales:
            said = (*said, _SCALES.format(hit=sum(scales.values()), names=first_names(scales)))
        doubtful |= scales
    behind = reached_after(run.suspect, run.benign.images[:2], doubtful, run.sites)
    if not any(layer.certified for layer in done.layers if layer.name in behind):
        return done, ()
    again = replace(recipe, guessed=recipe.guessed | behind)
    return run.final(again, "withdrawing certificates"), said


def guessed_behind(run: Run, done: Finished) -> frozenset[str]:
    """Layers of a repaired network that are shown what estimates make, the estimated ones included."""
    estimated = [layer.name for layer in done.layers if layer.guarantee not in _AS_TRAINED]
    modules = {*estimated, *(scale.name.rpartition(".")[0] for scale in done.scales)}
    return reached_after(done.purified, run.benign.images[:2], modules, run.sites) if modules else frozenset()
