"""Repairs of sparse noise are kept only where the network tells the benign images apart better than as received."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from depurate.analysis import read_scores
from depurate.purification.finished import Finished
from depurate.purification.run import Run
from depurate.recovery import Guarantee, Recipe, information

_WITHOUT_ANCHOR = (
    "repaired with the anchor the network tells the benign images apart worse than as received ({after:.2f} against "
    "{before:.2f} nats), and without it better ({other:.2f}): so the anchor was not used"
)
_AS_RECEIVED = (
    "after the repair of sparse noise the network tells the benign images apart worse than as received ({after:.2f} "
    "against {before:.2f} nats): the repair was undone but for what is certainly damaged; noise may be left in it, and "
    "more images may help"
)

# Nats: less is rounding, of networks that tell nothing apart.
_NO_DIFFERENCE = 1e-3
_NOTHING_HIT = "in the end no weight was taken for hit by sparse noise: none was replaced"


def unharmed(run: Run, recipe: Recipe, done: Finished) -> tuple[Finished, tuple[str, ...]]:
    """Keep a repair, or make it without the anchor, or undo it: whichever answers tell the images apart best.

    A healthy network is sure of its answers to benign images, and these are not all alike; one that a
    repair broke is unsure or says the same of everything. I = H(mean f) − mean H(f) measures both, without labels.

    Args:
        run: The suspect and the images.
        recipe: That the repair was made by.
        done: The repair.

    Returns:
        What is to be kept, and what the user must know of it.
    """
    undone = replace(recipe, method="auto", repair=False, sparse=False)
    if recipe.sparse and _same_parameters(done):
        # New statistics without anything replaced would change a network that may be healthy.
        return run.final(undone, "putting statistics back"), (_NOTHING_HIT,)
    if not recipe.sparse or not run.benign.held_back or _certified(done):
        return done, ()

    def told(network: nn.Module) -> float:
        return information(network, run.benign.all(), read_scores)

    before, after = told(done.suspect), told(done.purified)
    if not after < before - _NO_DIFFERENCE:  # a network that gives no numbers at all is told apart by nothing
        return done, ()
    if run.anchor:
        other = replace(run, anchor={}).final(recipe, "repairing without the anchor")
        without = told(other.purified)
        if without > before:
            return other, (_WITHOUT_ANCHOR.format(before=before, after=after, other=without),)
    back = run.final(undone, "putting back what was repaired")
    if _certified(back):
        return back, ()
    return replace(back, noisy=True), (_AS_RECEIVED.format(before=before, after=after),)


def _certified(done: Finished) -> bool:
    return any(layer.guarantee in (Guarantee.EXACT, Guarantee.PARTIAL) for layer in done.layers)


def _same_parameters(done: Finished) -> bool:
    pairs = zip(done.suspect.parameters(), done.purified.parameters(), strict=True)
    return all(torch.equal(before, after) for before, after in pairs)
