"""The paper's recovery as written, applied to a deep network layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from depurate.purification.preparation import anchor_state, like_the_original, rounding_of, working_copy
from depurate.recovery import Recipe, walk
from depurate.spans import find_sites

_EVERYTHING = 2.0  # share of the patches' energy: above 1, no direction is cut off


def recover_layers(
    model: nn.Module, images: Sequence[Tensor], anchor: nn.Module
) -> tuple[nn.Module, int, int]:
    """l1 on the whole span of every layer's patches, in forward order, nothing cut off.

    Where there are as many independent patches as a kernel has numbers, the span is everything, the fit is perfect
    and the layer comes back as it was.

    Args:
        model: The suspect; not changed.
        images: Benign images in batches, normalised.
        anchor: What training started from.

    Returns:
        The recovered network, how many of its layers have room around their span, and how many layers there are.
    """
    suspect, recovered = working_copy(model, double=True), working_copy(model, double=True)
    batches = [batch.double() for batch in images]
    sites = find_sites(recovered, batches[0][:2])
    recipe = Recipe("exact", None, rounding=rounding_of(model), energy=_EVERYTHING)
    state = anchor_state(anchor, recovered)
    outcomes = [
        outcome
        for outcome in walk(suspect, recovered, state, sites, batches, recipe)
        if outcome.site.geometry is not None
    ]
    room = sum(bool(outcome.fits) and not outcome.truncated for outcome in outcomes)
    return like_the_original(model, recovered), room, len(outcomes)
