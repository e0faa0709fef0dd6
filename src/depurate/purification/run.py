"""One network with its benign images: walked as often as choosing and checking a recovery takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from depurate.analysis import (
    brought_up,
    compare,
    describe,
    logits,
    read_scores,
    scored_by,
    unlike_training,
    unrelated_anchor,
)
from depurate.purification.finished import Finished, Rehearsal
from depurate.purification.images import Benign
from depurate.purification.latest import Latest
from depurate.purification.lessons import counter_lesson
from depurate.purification.plain import reached_after
from depurate.recovery import (
    Agreement,
    FirstLook,
    LayerOutcome,
    LayerRecord,
    Lesson,
    Recipe,
    Repair,
    Vector,
    anchor_kernels,
    doubted_vectors,
    first_look,
    hit_kernels,
    hit_statistics,
    lost_vectors,
    read_statistics,
    renew_statistics,
    repair_scales,
    replaced_scales,
    settle,
    walk,
)
from depurate.spans import Site, read_kernels, write_kernels
from depurate.triggers import Adversarial, Trigger, effort_on, success

# Numbers in the images that failure signatures are looked for with: 222 of 224 x 224 pixels, all of most others.
_LOOKED_AT = 1 << 25

_SETTLED = (
    "then settled together with the other layers, within what each leaves open, to where the network is surest of its "
    "answers to the benign images and its normalisations, if any, meet what they kept of training: {more:,} entries "
    "more were taken for hit, {fewer:,} fewer, and the values of all that are replaced were chosen anew"
)

_ONCE_MORE = "measured once more after the layers were settled"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Run:
    """A suspect's working copy, its anchor, its layers and the benign images.

    Attributes:
        suspect: Working copy, never changed by a walk.
        anchor: State of the anchor, may be empty.
        sites: Layers in forward order.
        benign: Images.
        progress: Called with (what, done, in all).
        triggers: To teach away: benign images that carry them are to be answered as without them.
        share: Of the images that carry each of them.
        latest: What walks of this suspect share.
        lost: Scales and shifts of normalisations that are lost as a whole.
    """

    suspect: nn.Module
    anchor: Mapping[str, Tensor]
    sites: tuple[Site, ...]
    benign: Benign
    progress: Progress
    triggers: tuple[Trigger, ...] = ()
    share: float = 1.0
    latest: Latest = field(default_factory=Latest)
    lost: frozenset[Vector] = frozenset()

    def final(self, recipe: Recipe, what: str = "purifying") -> Finished:
        """Walk with all images and account for every layer."""
        return self._finished(self.benign.all(), recipe, what)

    def _finished(self, batches: list[Tensor], recipe: Recipe, what: str) -> Finished:
        suspect, purified, scales, outcomes = self._walked(batches, recipe, what)
        layers: list[LayerRecord] = []
        walked: dict[str, LayerOutcome] = {}
        for outcome in outcomes:
            used = recipe.strength_on(outcome.moments) if outcome.method == "soft" else None
            layers.append(replace(describe(outcome), strength=used))
            if recipe.sparse:  # without their moments: they are large
                walked[outcome.site.name] = replace(outcome, moments=None)
        if recipe.sparse and not self.lost:
            lost = self._lost(suspect, purified)
            if lost:
                return replace(self, lost=lost)._finished(batches, recipe, what)
        repairs = {name: outcome.repair for name, outcome in walked.items() if outcome.repair is not None}
        open_ = repairs | scales if repairs else {}
        if any(layer.certified for layer in layers):
            # What was taken for good before a layer that is certified has to stay as the certificate saw it.
            open_ = {name: repair for name, repair in open_.items() if bool(repair.hits.any())}
        settled = self._settle(suspect, purified, open_) if open_ else {}
        least = {name: outcome.least for name, outcome in walked.items() if outcome.least is not None}
        fresh = renew_statistics(purified, self.sites, batches, least) if settled else {}
        return Finished(
            suspect,
            purified,
            tuple(
                _settled(layer, walked[layer.name], settled.get(layer.name), fresh.get(layer.name))
                if recipe.sparse
                else layer
                for layer in layers
            ),
            sum(map(len, batches)),
            replaced_scales({name: settled.get(name, repair) for name, repair in scales.items()}),
        )

    def _lost(self, suspect: nn.Module, purified: nn.Module) -> frozenset[Vector]:
        """Scales and shifts that the repaired network is better off without: layers behind them are to be seen anew."""
        if not self.benign.held_back:
            return frozenset()
        doubted = doubted_vectors(self.suspect, self.anchor)
        return lost_vectors(purified, doubted, self.benign.all(), read_scores, suspect)

    def _settle(
        self, suspect: nn.Module, purified: nn.Module, repairs: Mapping[str, Repair]
    ) -> dict[str, Repair]:
        """Settle what sparse noise left open, together; return the repairs that changed by it."""
        if not self.benign.held_back:
            return {}
        self.progress("settling", 0, 1)
        changed = settle(purified, repairs, self.benign.all(), read_scores, suspect)
        self.progress("settling", 1, 1)
        return changed

    def reference(self, recipe: Recipe, what: str, numbers: int | None = None) -> nn.Module:
        """Recover without an account, from as many images as a trial takes, or of so many numbers in all.

        A network to compare the suspect with.
        """
        images = self.benign.to_try() if numbers is None else self.benign.some(numbers)
        return self._tried(images, recipe, what, (0, 1))[1]

    def attempt(self, recipe: Recipe, what: str, folds: Sequence[int] = (0,)) -> Agreement:
        """Recover without each fold of the images in turn and compare on it."""
        pairs = []
        for turn, fold in enumerate(folds):
            suspect, purified = self.without(recipe, what, fold, (turn, len(folds)))
            held_back = self.benign.check(fold)
            pairs.append((logits(suspect, held_back), logits(purified, held_back)))
        before, after = (torch.cat(scores) for scores in zip(*pairs, strict=True))
        return compare(before, after)

    def rehearse(
        self, recipe: Recipe, what: str, checked: Sequence[Trigger], received: nn.Module | None = None
    ) -> Rehearsal:
        """Recover without one fold and look at it there: agreement, and how often some triggers still work.

        Agreement is with the suspect, or with the network as it was received where the suspect was changed already.
        Large pictures take so long that a trial on them is made with all others and accounted for, to be kept.
        """
        done = None
        if effort_on(self.benign.images).keeps:
            done = self._finished(self.benign.others(0), recipe, what)
            suspect, purified = done.suspect, done.purified
        else:
            suspect, purified = self.without(recipe, what, 0)
        return replace(self.held_up(purified, suspect if received is None else received, checked), done=done)

    def held_up(self, network: nn.Module, suspect: nn.Module, checked: Sequence[Trigger]) -> Rehearsal:
        """Look at a network made without the first fold on just that: agreement, and how often triggers still work."""
        held_back = self.benign.check(0)
        left = success(scored_by(network), torch.cat(held_back), checked, put_on=self._on_held_back)
        return Rehearsal(compare(logits(suspect, held_back), logits(network, held_back)), left)

    def _on_held_back(self, trigger: Trigger, images: Tensor) -> Tensor:
        """Put a trigger on the images of the first fold; perturbations take long to find and stay the same."""
        if not isinstance(trigger, Adversarial):
            return trigger.on(images)
        return self.latest.of(trigger, len(images), lambda: trigger.on(images))

    def without(
        self, recipe: Recipe, what: str, fold: int, turn: tuple[int, int] = (0, 1)
    ) -> tuple[nn.Module, nn.Module]:
        """Suspect with its certain hits filled, and purified network, of a walk without one fold."""
        return self._tried(self.benign.fit(fold), recipe, what, turn)

    def _tried(
        self, batches: list[Tensor], recipe: Recipe, what: str, turn: tuple[int, int]
    ) -> tuple[nn.Module, nn.Module]:
        suspect, purified, _, outcomes = self._walked(batches, recipe, what, turn)
        for _ in outcomes:
            pass
        return suspect, purified

    def _walked(
        self, batches: list[Tensor], recipe: Recipe, what: str, turn: tuple[int, int] = (0, 1)
    ) -> tuple[nn.Module, nn.Module, dict[str, Repair], Iterator[LayerOutcome]]:
        """Copies of the suspect to fill and to purify, scales repaired in it, and the walk, a layer at a time."""
        suspect, purified = copy.deepcopy(self.suspect), copy.deepcopy(self.suspect)
        scales = repair_scales(self.suspect, self.anchor, self.lost) if recipe.sparse else {}
        for name, repair in scales.items():
            write_kernels(purified.get_submodule(name), repair.kernels)
        hit = [name for name, repair in scales.items() if bool(repair.hits.any())]
        behind = reached_after(self.suspect, self.benign.images[:2], hit, self.sites)
        recipe = replace(recipe, guessed=recipe.guessed | behind)
        before, layers = turn[0] * len(self.sites), turn[1] * len(self.sites)

        def outcomes() -> Iterator[LayerOutcome]:
            steps = walk(suspect, purified, self.anchor, self.sites, self._lesson(batches), recipe)
            for done, outcome in enumerate(steps, start=before + 1):
                yield outcome
                self.progress(what, done, layers)

        return suspect, purified, scales, outcomes()

    def _lesson(self, batches: list[Tensor]) -> Lesson:
        if not self.triggers:
            return Lesson.of(batches)
        return counter_lesson(batches, self.triggers, self.share, scored_by(self.suspect), self.latest)

    def sparse_noise(self) -> FirstLook:
        """What the numbers of all weights alone say of sparse noise.

        Certain hits are not counted: they are damage of their own kind and say nothing of the others.
        """
        share, far, entries = 0.0, 0.0, 0
        for site in self.sites:
            if site.geometry is None:
                continue
            kernels = read_kernels(self.suspect.get_submodule(site.name))
            origin = anchor_kernels(self.anchor, site.name, kernels)
            start = torch.zeros_like(kernels) if origin is None else origin
            looked = first_look(kernels, start, self._hits(site))
            share += looked.share * kernels.numel()
            far += looked.far * kernels.numel()
            entries += kernels.numel()
        return FirstLook(share / max(entries, 1), far / max(entries, 1))

    def _hits(self, site: Site) -> Tensor:
        module = self.suspect.get_submodule(site.name)
        if site.geometry is None:
            return hit_statistics(*read_statistics(module))
        return hit_kernels(read_kernels(module), module.bias is not None)

    def signatures(self, suspect: nn.Module) -> tuple[str, ...]:
        """Failure signatures of the ground that the recovery stands on; `suspect` has its certain hits filled."""
        used, batches = len(self.benign.images), self.benign.some(_LOOKED_AT)
        seen = list(unlike_training(suspect, self.sites, batches, logits(suspect, batches)))
        seen += unrelated_anchor(suspect, self.anchor, self.sites)
        if not self.benign.held_back:
            seen.append(f"only {used} benign images: none could be held back to check the recovery with")
        if self.benign.seen > used:
            seen.append(f"a random sample of {used:,} of the {self.benign.seen:,} images was used")
        return tuple(seen)


def _settled(
    layer: LayerRecord, before: LayerOutcome, repair: Repair | None, statistics: Tensor | None
) -> LayerRecord:
    """The record of a layer after settling, which may have changed its repair, or its statistics."""
    if statistics is not None:
        return brought_up(layer, replace(before, purified=statistics), _ONCE_MORE)
    if repair is None:
        return layer
    after = replace(before, purified=repair.kernels, hits=repair.hits, repair=repair)
    more, fewer = (int(found.sum()) for found in (after.hits & ~before.hits, before.hits & ~after.hits))
    return brought_up(layer, after, _SETTLED.format(more=more, fewer=fewer))
