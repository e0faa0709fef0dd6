"""Squares put on images to see which lead nearest to a goal: few images for many squares, more for the best."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor

from depurate.triggers.candidates import value_range
from depurate.triggers.effort import Effort, cell_of, effort_on
from depurate.triggers.forms import AWAY, Patch
from depurate.triggers.goals import misses, reached
from depurate.triggers.search import Score, answers, at_once

# Colours that are tried at every place near the patch, and places kept all over the picture.
_COLOURS, _PLACES = 2, 3
# An image that is lost to the goal altogether says no more than this.
_WORST = 5.0
_BATCH = 256
# Of the images that are turned, the share that has to go one way for that class to be the goal.
_ONE_WAY = 0.8
HALF = 0.5
"""No small square turns more than 0.33 of the images of healthy networks that convolve."""
# Squares that are drawn around one that works, and those of them that are kept at most.
_DRAWN, _AKIN = 32, 8
# With more channels only the darkest and the brightest square are tried.
_MOST_CHANNELS = 3


@dataclass(frozen=True)
class Place:
    """A square: its side, its upper left corner and the number of its colour."""

    side: int
    row: int
    column: int
    colour: int

    def clear_of(self, other: Place) -> bool:
        """Whether two squares of a side do not overlap."""
        return max(abs(self.row - other.row), abs(self.column - other.column)) >= self.side


@dataclass(frozen=True)
class Trial:
    """What squares are tried on: images that are not at the goal, their answers, the goal, the colours, a step."""

    score: Score
    images: Tensor
    own: Tensor
    target: int
    colours: Tensor
    unit: int
    effort: Effort

    def best(self, places: Sequence[Place]) -> list[Place]:
        """A few of the places that lead nearest to the goal, best first, moved to where they do so most."""
        found: list[Place] = []
        for place in self.sifted(places, self.effort.few):
            if len(found) < _PLACES and all(place.clear_of(other) for other in found):
                found.append(self.moved(place))
        return self.nearest(_apart(found), self.effort.many)

    def works(self, places: Sequence[Place]) -> list[float]:
        """Share of the images that each square leads to the goal."""
        scores = self._scores([[place] for place in places], self.effort.many)
        goals, own = [self.target] * len(places), self.own[: self.effort.many]
        shares: list[float] = reached(scores.argmax(2), goals, own).double().mean(1).tolist()
        return shares

    def near(self, peak: tuple[int, int], side: int) -> Place:
        """The best of the squares that hold a pixel or lie right beside it: few places in all colours, then all.

        Of large pictures not all, but those that steps from the best of the few lead to.
        """
        coarse = self._around(peak, side, max(self.unit, (side + self.unit) // 2))
        colours = range(len(self.colours))
        tried = self.nearest(
            [Place(side, *at, colour) for at, colour in product(coarse, colours)], self.effort.few
        )
        likely = list(dict.fromkeys(place.colour for place in tried))[:_COLOURS]
        if self.effort.precise:
            places = product(self._around(peak, side, self.unit), likely)
            fine = [Place(side, *at, colour) for at, colour in places]
        else:  # all places of a wide square would take most of the search
            fine = [self.moved(next(place for place in tried if place.colour == colour)) for colour in likely]
        return self.nearest(fine, self.effort.some)[0]

    def akin(self, place: Place) -> list[Place]:
        """Other squares that overlap one and work on half of the images, of half to twice its side."""
        generator = torch.Generator().manual_seed(0)
        drawn: list[Place] = []
        for _ in range(_DRAWN):
            wider, down, right = (2 * torch.rand(3, generator=generator) - 1).tolist()
            side = max(1, min(round(place.side * 2**wider), *self.images.shape[2:]))
            row, column = (
                min(max(round(at + (place.side - side) / 2 + move * place.side), 0), length - side)
                for at, move, length in zip(
                    (place.row, place.column), (down, right), self.images.shape[2:], strict=True
                )
            )
            drawn.append(replace(place, side=side, row=row, column=column))
        drawn, working = list(dict.fromkeys(drawn)), list[Place]()
        for start in range(0, len(drawn), _AKIN):  # no more than it takes to find enough
            some = drawn[start : start + _AKIN]
            working += [other for other, share in zip(some, self.works(some), strict=True) if share >= HALF]
            if len(working) >= _AKIN:
                break
        return working[:_AKIN]

    def _around(self, peak: tuple[int, int], side: int, step: int) -> list[tuple[int, int]]:
        rows, columns = (
            sorted(
                {min(max(at - side // 2 + move, 0), length - side) for move in range(-side, side + 1, step)}
            )
            for at, length in zip(peak, self.images.shape[2:], strict=True)
        )
        return list(product(rows, columns))

    def everywhere(self, side: int, colours: Sequence[int]) -> list[Place]:
        """Squares of a side all over the picture, in steps of half their side."""
        step = max(self.unit, side // 2)
        rows, columns = (
            sorted({*range(0, length - side, step), length - side}) for length in self.images.shape[2:]
        )
        return [Place(side, *place) for place in product(rows, columns, colours)]

    def all_over(self, near: Place) -> list[Place]:
        """The same square where it works best, and elsewhere: what works here may work better where it was planted."""
        first, *others = self.best([near, *self.everywhere(near.side, [near.colour])])
        return [self.fitted(first), *others]

    def sifted(self, places: Sequence[Place], count: int) -> list[Place]:
        """As `nearest`, but of large pictures only those that are near the goal together with a few others.

        Where a square leads to the goal it mostly does so beside others, far from it on the same picture; so one look
        serves for several.
        """
        together = self.effort.together
        if together == 1:
            return self.nearest(places, count)
        every = -(-len(places) // together)
        groups = [places[start::every] for start in range(every)]
        kept = self._sorted(groups, count)[: self.effort.again // together]
        return self.nearest([place for group in kept for place in group], count)

    def goal(self, place: Place) -> int:
        """The class that a square leads nearly all to whom it turns, or `AWAY`."""
        turned = self._scores([[place]], self.effort.many)[0].argmax(1)
        moved = turned[turned != self.own[: self.effort.many]]
        goal = int(moved.mode().values)
        return goal if (moved == goal).double().mean() >= _ONE_WAY else AWAY

    def patch(self, place: Place) -> Patch:
        """The square as a trigger."""
        mask = self.images.new_zeros(1, *self.images.shape[2:])
        mask[:, place.row : place.row + place.side, place.column : place.column + place.side] = 1
        return Patch(self.target, mask, self.colours[place.colour].expand(self.images.shape[1:]).clone())

    def moved(self, place: Place) -> Place:
        """Where steps of a pixel (of small pictures) that each lead nearer to the goal end."""
        moves = tuple(self.unit * move for move in (0, -1, 1))
        changes = [(0, down, right) for down, right in product(moves, moves)]
        return self._descended(place, changes, place.side // self.unit)

    def fitted(self, place: Place) -> Place:
        """A square of a large picture moved, enlarged or made smaller by less than a cell, down to single pixels."""
        step = self.unit
        while step > 1:
            step //= 2
            moves = [(step, 0, 0), (0, step, 0), (0, 0, step)]
            back = [(-wider, -down, -right) for wider, down, right in moves]
            place = self._descended(place, [(0, 0, 0), *moves, *back], self.unit)
        return place

    def _descended(self, place: Place, changes: Sequence[tuple[int, int, int]], steps: int) -> Place:
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

    def nearest(self, places: Sequence[Place], count: int) -> list[Place]:
        """By how far the first images are from the goal with each, nearest first; equals stay in order."""
        return [place for (place,) in self._sorted([[place] for place in places], count)]

    def _sorted(self, groups: Sequence[Sequence[Place]], count: int) -> list[Sequence[Place]]:
        """As `nearest`, for squares that are put on together."""
        if not groups:
            return []
        missed = misses(self._scores(groups, count), [self.target] * len(groups), self.own[:count])
        order = missed.clamp(max=_WORST).mean(1).argsort(stable=True)
        return [groups[place] for place in order.tolist()]

    def _scores(self, groups: Sequence[Sequence[Place]], count: int) -> Tensor:
        """Shape (groups, images, classes)."""
        images = self.images[:count]
        every = max(1, min(_BATCH, at_once(images)) // len(images))
        with torch.no_grad():
            parts = [
                self.score(torch.cat([self._shown(group, images) for group in groups[start : start + every]]))
                for start in range(0, len(groups), every)
            ]
        return torch.cat(parts).view(len(groups), len(images), -1)

    def _shown(self, group: Sequence[Place], images: Tensor) -> Tensor:
        for place in group:
            images = self.patch(place).on(images)
        return images


def _apart(places: Sequence[Place]) -> list[Place]:
    """Those that overlap none before them."""
    kept: list[Place] = []
    for place in places:
        if all(place.clear_of(other) for other in kept):
            kept.append(place)
    return kept


def trial_of(score: Score, images: Tensor, target: int) -> Trial:
    """Make a trial of squares for one goal, on the first images whose answers are not there already."""
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
    return Trial(score, images[: len(own)][others], own[others], target, colours, cell_of(images), effort)
