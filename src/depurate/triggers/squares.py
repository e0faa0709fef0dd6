"""Plain squares: the simplest trigger there is, and few enough to try them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers.effort import CELLS
from depurate.triggers.forms import AWAY, Patch
from depurate.triggers.middles import around
from depurate.triggers.search import Score, Step
from depurate.triggers.square_trial import HALF, Place, Trial, trial_of

# Sides in cells.
_SIDES = range(1, 9)
_WORKS = 0.9
# All sides are given up when those of up to four cells do less than this.
_HOPELESS, _HOPELESS_SIDE = 0.35, 4
# Sides of the squares that the whole picture is scanned with.
_SCANNED_SIDES = range(2, 6)


@dataclass(frozen=True)
class PlainSquare:
    """A square of one colour that leads most images to a goal.

    Attributes:
        square: At the place where it works best.
        elsewhere: The same square at other places where it works on half of them; of large pictures, where the planted
            square is seldom met to the pixel, also others that overlap it and work.
    """

    square: Patch
    elsewhere: tuple[Patch, ...]


def find_square(score: Score, images: Tensor, patch: Patch, window: int | None = None) -> PlainSquare | None:
    """Find the smallest square of one extreme colour that reaches a patch's goal from nearly every image.

    Descent finds the smallest change that works, which is seldom the one that was planted; of squares there are few
    enough to try them. Those that overlap the patch are tried side by side, by rising size.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign.
        patch: Found by descent: where to look, and for which goal.
        window: Side of the part of the images, around the patch, that squares are tried on first; None for the images.

    Returns:
        The square, or None where none works.

    Source: Gu et al., BadNets, 2017 (the trigger); the search is our own.
    """
    trial = trial_of(score, images, patch.target)
    if not len(trial.images):
        return None
    peak, best = _peak(patch.mask), 0.0
    nearby, corner = trial, (0, 0)
    if window is not None:
        part, corner = around(images, window, peak)
        nearby = replace(trial_of(score, part, patch.target), unit=trial.unit, colours=trial.colours)
        if not len(nearby.images):
            return None
    at = (peak[0] - corner[0], peak[1] - corner[1])
    for side in (trial.unit * side for side in _SIDES):
        if 4 * side > min(images.shape[2:]) or (side > _HOPELESS_SIDE * trial.unit and best < _HOPELESS):
            return None
        near = nearby.near(at, side)
        near = replace(near, row=near.row + corner[0], column=near.column + corner[1])
        (share,) = trial.works([near])
        best = max(best, share)
        if share >= trial.effort.promising:
            places = trial.all_over(near)
            if share >= _WORKS or trial.works(places[:1])[0] >= _WORKS:
                return _plain(trial, places)
    return None


def scan_squares(
    score: Score, images: Tensor, progress: Step | None = None
) -> tuple[PlainSquare | None, float]:
    """Find the square that leads most images away from their answers, of all small ones, dark or bright.

    A healthy network keeps most answers under a square of a fortieth of the picture, wherever it is; of very small
    pictures no square is that small.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign.
        progress: Called with (sides done, sides in all).

    Returns:
        The square, for the one class that it leads to or for `AWAY`, and the share of images that it turns there;
        None where that is less than half.

    Source: our own.
    """
    trial = trial_of(score, images, AWAY)
    effort, colours = trial.effort, (0, len(trial.colours) - 1)
    sides = [
        trial.unit * side
        for side in _SCANNED_SIDES
        if CELLS * trial.unit * side <= _SCANNED_SIDES[-1] * min(images.shape[2:])
    ]
    found: list[Place] = []
    for done, side in enumerate(sides, start=1):
        places = trial.sifted(trial.everywhere(side, colours), effort.shown)
        likely = trial.nearest(places[: effort.again // effort.together], effort.some)
        found.append(trial.moved(likely[0]))
        if progress is not None:
            progress(done, len(sides))
    if not found:
        return None, 0.0
    shares = trial.works(found)
    share, place = max(zip(shares, found, strict=True), key=lambda pair: pair[0])
    if share < HALF:
        return None, share
    goal = trial.goal(place)
    aimed = trial if goal == AWAY else trial_of(score, images, goal)
    return _plain(aimed, aimed.all_over(place)), aimed.works([place])[0]


def _plain(trial: Trial, places: Sequence[Place]) -> PlainSquare:
    """A square at its best place, and those of the others where it works on half of the images."""
    shares = trial.works(places)
    kept = [place for place, share in zip(places[1:], shares[1:], strict=True) if share >= HALF]
    if not trial.effort.precise:
        kept += trial.akin(places[0])
    return PlainSquare(trial.patch(places[0]), tuple(map(trial.patch, kept)))


def _peak(mask: Tensor) -> tuple[int, int]:
    """Row and column around which a mask, shape (1, h, w), has most of itself."""
    around = F.avg_pool2d(mask[None], 3, 1, 1)[0, 0]
    row, column = divmod(int(around.argmax()), around.shape[1])
    return row, column
