"""Plain squares: the simplest trigger there is, and few enough to try them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.triggers.candidates import value_range
from depurate.triggers.effort import Effort, cell_of, effort_on
from depurate.triggers.forms import AWAY, Patch
from depurate.triggers.goals import misses, reached
from depurate.triggers.search import Score, Step, answers, at_once

# Sides in pixels of pictures of 32 pixels; larger pictures take proportionally larger ones.
_SIDES = range(1, 9)
_SIDES_FOR = 32
_WORKS = 0.9
# No small square turns more than 0.28 of the images of healthy networks.
_HALF = 0.5
# All sides are given up when those of up to four pixels do less than this.
_HOPELESS, _HOPELESS_SIDE = 0.35, 4
# Colours that are tried at every place near the patch, and places kept all over the picture.
_COLOURS, _PLACES = 2, 3
# An image that is lost to the goal altogether says no more than this.
_WORST = 5.0
_BATCH = 256
# Sides of the squares that the whole picture is scanned with.
_SCANNED_SIDES = range(2, 6)
# Of the images that are turned, the share that has to go one way for that class to be the goal.
_ONE_WAY = 0.8
# With more channels only the darkest and the brightest square are tried.
_MOST_CHANNELS = 3


@dataclass(frozen=True)
class PlainSquare:
    """A square of one colour that leads most images to a goal.

    Attributes:
        square: At the place where it works best.
        elsewhere: The same square at other places where it works on half of them.
    """

    square: Patch
    elsewhere: tuple[Patch, ...]


def find_square(score: Score, images: Tensor, patch: Patch) -> PlainSquare | None:
    """Find the smallest square of one extreme colour that reaches a patch's goal from nearly every image.

    Descent finds the smallest change that works, which is seldom the one that was planted; of squares there are few
    enough to try them. Those that overlap the patch are tried side by side, by rising size.

    Args:
        score: Images (n, c, h, w) to scores (n, classes).
        images: Benign.
        patch: Found by descent: where to look, and for which goal.

    Returns:
        The square, or None where none works.

    Source: Gu et al., BadNets, 2017 (the trigger); the search is our own.
    """
    trial = _trial(score, images, patch.target)
    if not len(trial.images):
        return None
    peak, best = _peak(patch.mask), 0.0
    for side in (trial.unit * side for side in _SIDES):
        if 4 * side > min(images.shape[2:]) or (side > _HOPELESS_SIDE * trial.unit and best < _HOPELESS):
            return None
        near = trial.near(peak, side)
        best = max(best, *trial.works([near]))
        if best >= trial.effort.promising:
            places = trial.all_over(near)
            if best >= _WORKS or trial.works(places[:1])[0] >= _WORKS:
                return trial.plain(places)
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
    trial = _trial(score, images, AWAY)
    sides = [
        trial.unit * side
        for side in _SCANNED_SIDES
        if _SIDES_FOR * trial.unit * side <= _SCANNED_SIDES[-1] * min(images.shape[2:])
    ]
    found: list[_Place] = []
    for done, side in enumerate(sides, start=1):
        places = trial.nearest(trial.everywhere(side, (0, len(trial.colours) - 1)), trial.effort.shown)
        likely = trial.nearest(places[: trial.effort.again], trial.effort.some)
        found.append(trial.moved(likely[0]))
        if progress is not None:
            progress(done, len(sides))
    if not found:
        return None, 0.0
    shares = trial.works(found)
    share, place = max(zip(shares, found, strict=True), key=lambda pair: pair[0])
    if share < _HALF:
        return None, share
    goal = trial.goal(place)
    aimed = trial if goal == AWAY else _trial(score, images, goal)
    return aimed.plain(aimed.all_over(place)), aimed.works([place])[0]


@dataclass(frozen=True)
class _Place:
    """A square: its side, its upper left corner and the number of its colour."""

    side: int
    row: int
    column: int
    colour: int

    def clear_of(self, other: _Place) -> bool:
        """Whether two squares of a side do not overlap."""
        return max(abs(self.row - other.row), abs(self.column - other.column)) >= self.side


@dataclass(frozen=True)
class _Trial:
    """What squares are tried on: images that are not at the goal, their answers, the goal, the colours, a step."""

    score: Score
    images: Tensor
    own: Tensor
    target: int
    colours: Tensor
    unit: int
    effort: Effort

    def best(self, places: Sequence[_Place]) -> list[_Place]:
        """A few of the places that lead nearest to the goal, best first, moved to where they do so most."""
        found: list[_Place] = []
        for place in self.nearest(places, self.effort.few):
            if len(found) < _PLACES and all(place.clear_of(other) for other in found):
                found.append(self.moved(place))
        return self.nearest(_apart(found), self.effort.many)

    def works(self, places: Sequence[_Place]) -> list[float]:
        """Share of the images that each square leads to the goal."""
        scores = self._scores(places, self.effort.many)
        goals, own = [self.target] * len(places), self.own[: self.effort.many]
        shares: list[float] = reached(scores.argmax(2), goals, own).double().mean(1).tolist()
        return shares

    def near(self, peak: tuple[int, int], side: int) -> _Place:
        """The best of the squares that hold a pixel or lie right beside it: few places in all colours, then all."""
        coarse = self._around(peak, side, max(self.unit, (side + self.unit) // 2))
        colours = range(len(self.colours))
        tried = self.nearest(
            [_Place(side, *at, colour) for at, colour in product(coarse, colours)], self.effort.few
        )
        likely = list(dict.fromkeys(place.colour for place in tried))[:_COLOURS]
        fine = product(self._around(peak, side, self.unit), likely)
        return self.nearest([_Place(side, *at, colour) for at, colour in fine], self.effort.some)[0]

    def _around(self, peak: tuple[int, int], side: int, step: int) -> list[tuple[int, int]]:
        rows, columns = (
            sorted(
                {min(max(at - side // 2 + move, 0), length - side) for move in range(-side, side + 1, step)}
            )
            for at, length in zip(peak, self.images.shape[2:], strict=True)
        )
        return list(product(rows, columns))

    def everywhere(self, side: int, colours: Sequence[int]) -> list[_Place]:
        """Squares of a side all over the picture, in steps of half their side."""
        step = max(self.unit, side // 2)
        rows, columns = (
            sorted({*range(0, length - side, step), length - side}) for length in self.images.shape[2:]
        )
        return [_Place(side, *place) for place in product(rows, columns, colours)]

    def all_over(self, near: _Place) -> list[_Place]:
        """The same square where it works best, and elsewhere: what works here may work better where it was planted."""
        first, *others = self.best([near, *self.everywhere(near.side, [near.colour])])
        return [self.fitted(first), *others]

    def plain(self, places: Sequence[_Place]) -> PlainSquare:
        """A square at its best place, and those of the others where it works on half of the images."""
        shares = self.works(places)
        kept = [place for place, share in zip(places[1:], shares[1:], strict=True) if share >= _HALF]
        return PlainSquare(self.patch(places[0]), tuple(map(self.patch, kept)))

    def goal(self, place: _Place) -> int:
        """The class that a square leads nearly all to whom it turns, or `AWAY`."""
        turned = self._scores([place], self.effort.many)[0].argmax(1)
        moved = turned[turned != self.own[: self.effort.many]]
        goal = int(moved.mode().values)
        return goal if (moved == goal).double().mean() >= _ONE_WAY else AWAY

    def patch(self, place: _Place) -> Patch:
        """The square as a trigger."""
        mask = self.images.new_zeros(1, *self.images.shape[2:])
        mask[:, place.row : place.row + place.side, place.column : place.column + place.side] = 1
        return Patch(self.target, mask, self.colours[place.colour].expand(self.images.shape[1:]).clone())

    def moved(self, place: _Place) -> _Place:
        """Where steps of a pixel (of small pictures) that each lead nearer to the goal end."""
        moves = tuple(self.unit * move for move in (0, -1, 1))
        changes = [(0, down, right) for down, right in product(moves, moves)]
        return self._descended(place, changes, place.side)

    def fitted(self, place: _Place) -> _Place:
        """A square of a large picture moved, enlarged or made smaller by less than a cell, down to single pixels."""
        step = self.unit
        while step > 1:
            step //= 2
            sizes = (0, -step, step)
            place = self._descended(place, list(product(sizes, sizes, sizes)), self.unit)
        return place

    def _descended(self, place: _Place, changes: Sequence[tuple[int, int, int]], steps: int) -> _Place:
        """Where changes of (side, row, column) that each lead nearer to the goal end."""
        height, width = self.images.shape[2:]
        for _ in range(steps):
            around = [
                replace(place, side=place.side + wider, row=place.row + down, column=place.column + right)
                for wider, down, right in changes
            ]
            inside = [
                other
                for other in around
                if other.side > 0
                and 0 <= other.row <= height - other.side
                and 0 <= other.column <= width - other.side
            ]
            best = self.nearest(inside, self.effort.some)[0]
            if best == place:
                break
            place = best
        return place

    def nearest(self, places: Sequence[_Place], count: int) -> list[_Place]:
        """By how far the first images are from the goal with each, nearest first; equals stay in order."""
        if not places:
            return []
        missed = misses(self._scores(places, count), [self.target] * len(places), self.own[:count])
        order = missed.clamp(max=_WORST).mean(1).argsort(stable=True)
        return [places[place] for place in order.tolist()]

    def _scores(self, places: Sequence[_Place], count: int) -> Tensor:
        """Shape (places, images, classes)."""
        images = self.images[:count]
        every = max(1, min(_BATCH, at_once(images)) // len(images))
        with torch.no_grad():
            parts = [
                self.score(
                    torch.cat([self.patch(place).on(images) for place in places[start : start + every]])
                )
                for start in range(0, len(places), every)
            ]
        return torch.cat(parts).view(len(places), len(images), -1)


def _apart(places: Sequence[_Place]) -> list[_Place]:
    """Those that overlap none before them."""
    kept: list[_Place] = []
    for place in places:
        if all(place.clear_of(other) for other in kept):
            kept.append(place)
    return kept


def _trial(score: Score, images: Tensor, target: int) -> _Trial:
    effort = effort_on(images)
    own = answers(score, images[: 2 * effort.many])
    others = ~reached(own[None], [target], own)[0]
    low, high = value_range(images)
    channels = images.shape[1]
    corners: Iterable[tuple[float, ...]] = [(0.0,) * channels, (1.0,) * channels]
    if channels <= _MOST_CHANNELS:
        corners = product((0.0, 1.0), repeat=channels)
    colours = torch.stack(
        [low + (high - low) * images.new_tensor(corner)[:, None, None] for corner in corners]
    )
    return _Trial(score, images[: len(own)][others], own[others], target, colours, cell_of(images), effort)


def _peak(mask: Tensor) -> tuple[int, int]:
    """Row and column around which a mask, shape (1, h, w), has most of itself."""
    around = F.avg_pool2d(mask[None], 3, 1, 1)[0, 0]
    row, column = divmod(int(around.argmax()), around.shape[1])
    return row, column
