"""Whether a network's weights hold sparse noise: by their numbers, and by how well it tells images apart."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace
from enum import Enum

from torch import nn

from depurate.analysis import compare, logits, read_scores
from depurate.purification.run import Run
from depurate.recovery import Recipe, information, own_strains

# Networks at hand that nobody damaged show at most 0.008 by `Run.sparse_noise`, by the tails of their own weights.
_SPARSE = 0.006
_SURELY_SPARSE = 0.03
# No network at hand that nobody damaged has any weight so far out.
_SURELY_FAR = 1e-4
# A network that tells images apart by less than this share of what it could is not well.
_UNWELL = 0.5
# Share of what is missing to ln(classes) that a repair wins back: noise that costs over a point of accuracy 0.2 to 0.8,
# what is no such noise 0.1 at most.
_WON_BACK = 0.15
# Half of it, where normalisations speak of hit weights, too: there 0.1 to 1.1, in healthy networks nothing.
_WON_BACK_STRAINED = _WON_BACK / 2
_LITTLE_MISSING = 0.1
_SAME_ANSWERS = 0.8
# How far the means that reach normalisations are from what they kept, by ρ a channel: at most of them this far, and at
# the first at most so many times as far. Healthy networks at hand show a hundredth, 0.13 where the rate of learning was
# never lowered, 0.4 where training went on with statistics kept as they were; other pictures mostly under 0.05, at most
# 0.3, and the first as much at least; noise that costs two points 0.18 to 1.5, the first a sixth of it at most.
_STRAINED, _BY_IMAGES, _LAYERS = 0.16, 0.5, 3
# Nats: less is rounding.
_NO_DIFFERENCE = 1e-3
# Numbers in the images looked at: 33 pictures of 224 x 224 pixels, all of most others.
_LOOKED_AT = 5_000_000


class Verdict(Enum):
    """What is to be made of a network's weights."""

    NONE = "no sparse noise"
    POSSIBLE = "sparse noise, or tails of its own"
    SURE = "sparse noise"


@dataclass(frozen=True)
class SparseNoise:
    """What was found.

    Attributes:
        verdict: The conclusion.
        share: Of the weights that look hit, by their numbers alone.
        told: How well images are told apart without and with a repair, in nats, where that showed it.
        strained: Whether normalisations showed it, too.
    """

    verdict: Verdict
    share: float
    told: tuple[float, float] | None = None
    strained: bool = False


def look_for_noise(run: Run, recipe: Recipe) -> SparseNoise:
    """Tell whether weights hold sparse noise, also where it is no larger than they are.

    Numbers alone show noise that is larger than the weights, in many of them or far larger in a few. Where they leave
    it open, where the network holds damage of another kind, tells the images apart badly, or its normalisations do not
    meet what they kept, a repair is tried: noise is what a repair wins back, of I = H(mean f) − mean H(f), over what
    new BatchNorm statistics alone do. These also mend what is wrong with the images; where it is not the images that
    normalisations speak of, they count as part of the repair. Where few entries stand out and their repair changes
    nothing, they may be noise or not; where it does harm, they are none.

    Args:
        run: The suspect and the images.
        recipe: Of a repair, `sparse` not set. In a network that is `damaged` the repair of that alone is what is
            compared with.

    Returns:
        The verdict.
    """
    looked, damaged = run.sparse_noise(), recipe.damaged
    share = max(looked.share, looked.far)
    if share > _SURELY_SPARSE or looked.far > _SURELY_FAR:
        return SparseNoise(Verdict.SURE, share)
    stands_out = share > _SPARSE
    if not run.benign.held_back:
        return SparseNoise(Verdict.SURE if damaged and stands_out else Verdict.NONE, share)
    before = _told(run, run.suspect)
    most = _most(run)
    strained = not damaged and _strained(run)
    if not stands_out and not damaged and not strained and before > _UNWELL * most:
        return SparseNoise(Verdict.NONE, share)
    if recipe.method == "auto" and len(run.benign.images) > sum(map(len, run.benign.some(_LOOKED_AT))):
        recipe = replace(recipe, method="soft")  # what a few pictures span says nothing exact
    mended = before
    if not strained:
        known = replace(recipe, repair=damaged, renew=not damaged)
        mended = _told(run, run.reference(known, "checking what is wrong with the weights", _LOOKED_AT))
    repaired = run.reference(
        replace(recipe, sparse=True), "checking whether there is sparse noise", _LOOKED_AT
    )
    # A network that gives no numbers tells nothing apart.
    least = max((told for told in (mended, 0.0 if damaged else before) if told == told), default=0.0)
    after = _told(run, repaired)
    wanted = _WON_BACK_STRAINED if strained else _WON_BACK
    won = after - least > wanted * max(most - least, _LITTLE_MISSING)
    # Of images of one class nothing can be told, and a network that the repair broke seems to tell more of them.
    if won and after > _UNWELL * most:
        return SparseNoise(Verdict.SURE, share, (least, after), strained)
    # Where the images are told apart no better, what stood out was training's.
    harmless = after >= least - _NO_DIFFERENCE and _alike(run, repaired) > _SAME_ANSWERS
    possible = stands_out and (damaged or harmless)
    return SparseNoise(Verdict.POSSIBLE if possible else Verdict.NONE, share)


def shows_noise(run: Run) -> bool:
    """Whether the numbers of a network's weights alone speak of sparse noise."""
    looked = run.sparse_noise()
    return max(looked.share, looked.far) > _SPARSE


def _strained(run: Run) -> bool:
    """Whether normalisations say that the weights before them are not those of training.

    Hit weights let through what is the same in all images, and means move. Other images than those of training are
    furthest off where they come in, and normalised again behind that; dropout moves deviations alone.
    """
    strains = own_strains(run.suspect, run.benign.some(_LOOKED_AT))
    means = [strain.means / strain.channels for strain in strains]
    if len(means) < _LAYERS:
        return False
    typical = statistics.median(means)
    return typical > _STRAINED and means[0] < _BY_IMAGES * typical


def _told(run: Run, network: nn.Module) -> float:
    return information(network, run.benign.some(_LOOKED_AT), read_scores)


def _most(run: Run) -> float:
    """The most that answers to so many images can tell of them."""
    images = run.benign.some(_LOOKED_AT)
    classes = logits(run.suspect, [images[0][:2]]).shape[1]
    return math.log(min(classes, sum(len(batch) for batch in images)))


def _alike(run: Run, repaired: nn.Module) -> float:
    """Share of answers that a repair left as they were: where it changes many, it broke what nothing had hit."""
    images = run.benign.some(_LOOKED_AT)
    return compare(logits(run.suspect, images), logits(repaired, images)).agreement
