"""The search for triggers: gradient descent on the image side only, all goals in one batch, no labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.triggers.aware import AwareCandidates
from depurate.triggers.candidates import Candidates, PatchCandidates, WarpCandidates
from depurate.triggers.effort import effort_on
from depurate.triggers.forms import Trigger
from depurate.triggers.goals import misses, reached

Score = Callable[[Tensor], Tensor]
Step = Callable[[int, int], None]
# The share of images a trigger has to turn, and the band in which the price of its size stays as it is.
_WANTED, _BAND = 0.95, 0.1
# Turning one network and not the other is harder.
_WANTED_OF_TWO = 0.9
_SMOOTHING = 0.7
_BATCH = 128
# Numbers in the pictures that a network is shown at once: 27 pictures of 224 pixels, whole batches of small ones.
_NUMBERS = 1 << 22


@dataclass(frozen=True)
class Search:
    """How long to search.

    Attributes:
        steps: Gradient steps; fewer where pictures are large.
        images: Benign images a step, drawn anew each time; a third of them where pictures are large.
        rate: Step length of Adam; longer where pictures are large.
        seed: Of the draws.
    """

    steps: int = 60
    images: int = 12
    rate: float = 0.3
    seed: int = 0


def find_patches(
    score: Score,
    images: Tensor,
    goals: Sequence[int],
    search: Search,
    progress: Step | None = None,
    *,
    unmoved: Score | None = None,
) -> tuple[Trigger, ...]:
    """Find for each goal the smallest patch that makes a network reach it on nearly every image.

    min Σm + (1/c)·[miss(f((1 − m) x + m p), goal) + CE(g((1 − m) x + m p), g(x))]; the price c of a pixel rises
    while the patch works on 95 % of the images and falls when it does not.

    Args:
        score: f: images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        goals: Classes, or `AWAY` for any but the own.
        search: How long.
        progress: Called with (steps done, steps in all).
        unmoved: g: another network, whose answers are to stay as they are; its term is left out when None.

    Returns:
        One patch a goal: the smallest that worked on the way, or the last one where none did.

    Source: Wang et al., Neural Cleanse, IEEE S&P 2019; all goals at once, the schedule, `AWAY` and the second
        network are our own.
    """
    return _smallest(PatchCandidates, score, images, goals, search, progress, unmoved)


def find_warps(
    score: Score, images: Tensor, goals: Sequence[int], search: Search, progress: Step | None = None
) -> tuple[Trigger, ...]:
    """Find for each goal the smallest smooth bending of all images that makes a network reach it.

    min √E|d|² + (1/c)·miss(f(x∘(id + d)), goal), d interpolated from 4×4 knots, c as for patches.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        goals: Classes, or `AWAY`.
        search: How long.
        progress: Called with (steps done, steps in all).

    Returns:
        One warp a goal: the smallest that worked on the way, or the last one where none did.

    Source: the form is that of Nguyen & Tran, WaNet, ICLR 2021; searching for it is our own.
    """
    return _smallest(WarpCandidates, score, images, goals, search, progress)


def find_aware(
    score: Score, images: Tensor, goals: Sequence[int], search: Search, progress: Step | None = None
) -> tuple[Trigger, ...]:
    """Find for each goal a small network that draws every image a patch of its own, as small as reaches the goal.

    min E Σm(x) + (1/c)·miss(f((1 − m(x)) x + m(x) p(x)), goal), c as for patches.

    Args:
        score: Images (n, c, h, w) to scores (n, classes), differentiable.
        images: Benign.
        goals: Classes, or `AWAY`.
        search: How long.
        progress: Called with (steps done, steps in all).

    Returns:
        One trigger a goal: the smallest that worked on the way, or the last one where none did.

    Source: the form is that of Nguyen & Tran, Input-aware dynamic backdoor attack, NeurIPS 2020; searching for it is
        our own.
    """
    return _smallest(AwareCandidates, score, images, goals, search, progress)


def success(
    score: Score,
    images: Tensor,
    triggers: Sequence[Trigger],
    *,
    unmoved: Score | None = None,
    at_most: int | None = None,
    put_on: Callable[[Trigger, Tensor], Tensor] = lambda trigger, images: trigger.on(images),
) -> list[float]:
    """Share of the first images, those that answer the target already left out, that each trigger turns to it.

    Args:
        score: Images to scores.
        images: Benign.
        triggers: Any.
        unmoved: Another network: only images to which its answer stays as it was count as turned.
        at_most: Images to look at; None for as many as `effort_on` them says.
        put_on: Puts a trigger on images, or knows what that makes.

    Returns:
        One share a trigger.
    """
    images = images[: at_most or effort_on(images).judged]
    own = answers(score, images)
    theirs = None if unmoved is None else answers(unmoved, images)
    shares = []
    for trigger in triggers:
        with torch.no_grad():
            shown, goal = put_on(trigger, images), [trigger.target]
        others = ~reached(own[None], goal, own)[0]
        turned = reached(answers(score, shown)[None], goal, own)[0]
        if unmoved is not None:
            turned &= answers(unmoved, shown) == theirs
        shares.append(float(turned[others].double().mean()) if others.any() else 0.0)
    return shares


def answers(score: Score, images: Tensor) -> Tensor:
    """Top answers, batch by batch, without gradients."""
    return scores_of(score, images).argmax(1)


def scores_of(score: Score, images: Tensor) -> Tensor:
    """Scores, batch by batch, without gradients."""
    with torch.no_grad():
        return torch.cat([score(batch) for batch in torch.split(images, min(_BATCH, at_once(images)))])


def at_once(images: Tensor, copies: int = 1) -> int:
    """How many of some images a network is shown at a time, each in several copies, so that memory stays bounded.

    >>> small, large = torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 224, 224)
    >>> at_once(small), at_once(large), at_once(large, copies=11)
    (1365, 27, 2)
    """
    return max(1, _NUMBERS // max(1, copies * images[0].numel()))


def drawn(available: int, count: int, generator: torch.Generator) -> Tensor:
    """Places of a few images, drawn with replacement."""
    return torch.randint(available, (count,), generator=generator)


@dataclass(frozen=True)
class _State:
    """What the descent knows of each goal: the price of size, how often it works, the smallest that worked."""

    price: Tensor
    works: Tensor
    smallest: Tensor
    best: tuple[Trigger | None, ...]


@dataclass(frozen=True)
class _Asked:
    """What is searched: a network, perhaps another to leave alone, images, goals, and both networks' own answers."""

    score: Score
    unmoved: Score | None
    images: Tensor
    goals: list[int]
    own: Tensor
    theirs: Tensor | None

    def descend(self, candidates: Candidates, at: Tensor, price: Tensor) -> Tensor:
        """Add the slopes of miss + price·size on some images; return which goals were reached, shape (goals, n)."""
        hits: list[Tensor] = []
        shown_to = 1 if self.unmoved is None else 2  # each network keeps what its slopes take
        for part in torch.split(at, at_once(self.images, shown_to * len(self.goals))):
            shown = candidates.on(self.images[part])
            missed, hit = _outcome(self.score, shown, self.goals, self.own[part])
            if self.unmoved is not None and self.theirs is not None:
                moved, held = _held(self.unmoved, shown, self.goals, self.theirs[part])
                missed, hit = missed + moved, hit & held
            loss = (missed.mean(1) + price * candidates.sizes()).sum() * (len(part) / len(at))
            loss.backward()  # type: ignore[no-untyped-call]
            hits.append(hit)
        return torch.cat(hits, 1)


def _smallest(
    form: Callable[[Tensor, int, torch.Generator], Candidates],
    score: Score,
    images: Tensor,
    goals: Sequence[int],
    search: Search,
    progress: Step | None,
    unmoved: Score | None = None,
) -> tuple[Trigger, ...]:
    """Descend on miss + price·size for all goals at once, keeping the smallest candidate of a form that works."""
    generator = torch.Generator().manual_seed(search.seed)
    candidates = form(images, len(goals), generator)
    goals, effort = list(goals), effort_on(images)
    rate, steps = effort.pace * search.rate, effort.of_steps(search.steps)
    adam = torch.optim.Adam(
        [{"params": part["params"], "lr": part["times"] * rate} for part in candidates.moved],
        betas=(0.5, 0.9),
    )
    asked = _Asked(
        score,
        unmoved,
        images,
        goals,
        answers(score, images),
        None if unmoved is None else answers(unmoved, images),
    )
    unknown = images.new_full((len(goals),), torch.inf)
    price = images.new_full((len(goals),), candidates.prices[0])
    state = _State(price, torch.zeros_like(price), unknown, (None,) * len(goals))
    wanted = _WANTED if unmoved is None else _WANTED_OF_TWO
    for step in range(steps):
        at = drawn(len(images), effort.a_step(search.images), generator).to(images.device)
        adam.zero_grad()
        hit = asked.descend(candidates, at, state.price)
        _without_nan(candidates)
        state = _judged(state, hit, candidates, goals, wanted)
        adam.step()
        if progress is not None:
            progress(step + 1, steps)
    return tuple(
        kept or candidates.taken(place, goal)
        for place, (kept, goal) in enumerate(zip(state.best, goals, strict=True))
    )


def _without_nan(candidates: Candidates) -> None:
    """Leave candidates where they are whose slope is NaN: damaged networks answer so, and a warp by NaN crashes."""
    for part in candidates.moved:
        slope = part["params"].grad
        if slope is not None:
            slope.nan_to_num_(0.0, 0.0, 0.0)


def _outcome(score: Score, shown: Tensor, goals: Sequence[int], own: Tensor) -> tuple[Tensor, Tensor]:
    """How far each goal is missed and whether it is reached, shape (goals, n) both."""
    scores = score(shown.flatten(0, 1)).view(*shown.shape[:2], -1)
    return misses(scores, goals, own), reached(scores.detach().argmax(2), goals, own)


def _held(unmoved: Score, shown: Tensor, goals: Sequence[int], own: Tensor) -> tuple[Tensor, Tensor]:
    """How far the other network is from its own answers, and whether it stays off the goal; (goals, n) both.

    Images whose own answer is the goal say nothing of it: they count as held and cost nothing.
    """
    scores = unmoved(shown.flatten(0, 1)).view(*shown.shape[:2], -1)
    moved = -scores.log_softmax(2).gather(2, own[None, :, None].expand(*shown.shape[:2], 1))[..., 0]
    already = reached(own.expand(len(goals), -1), goals, own)
    return moved * ~already, already | ~reached(scores.detach().argmax(2), goals, own)


def _judged(
    state: _State, hit: Tensor, candidates: Candidates, goals: Sequence[int], wanted: float
) -> _State:
    """Take note of what one step's candidates did, before they are moved on."""
    _, lowest, highest = candidates.prices
    sizes = candidates.sizes().detach()
    works = _SMOOTHING * state.works + (1 - _SMOOTHING) * hit.to(sizes).mean(1)
    dearer, cheaper = works > wanted, works < wanted - _BAND
    price = torch.where(dearer, state.price * 1.2, torch.where(cheaper, state.price / 1.2, state.price))
    better = (works >= wanted - _BAND / 2) & (sizes < state.smallest)
    best = tuple(
        candidates.taken(place, goals[place]) if is_better else kept
        for place, (is_better, kept) in enumerate(zip(better.tolist(), state.best, strict=True))
    )
    smallest = torch.where(better, sizes, state.smallest)
    return replace(state, price=price.clamp(lowest, highest), works=works, smallest=smallest, best=best)
