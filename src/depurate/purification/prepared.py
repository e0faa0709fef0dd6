"""The suspect made ready: a working copy, its layers, its images, and damage outside its layers replaced."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from depurate.analysis import logits
from depurate.errors import InputError
from depurate.purification.adapting import adapted
from depurate.purification.copies import anchor_state, first_floating, working_copy, working_damage
from depurate.purification.images import FEWEST, Benign, gather
from depurate.purification.plain import Guess, mend_plain, reached_after
from depurate.purification.quick import coarsely, laid_out
from depurate.recovery import mend_contradicted
from depurate.spans import Site, find_sites, parametrised_layers, told_parametrised

# Of the largest score: how far two passes may differ by rounding alone.
_STEADY = 1e-3
_RANDOM = (
    "the suspect answers the same images differently each time, though in evaluation mode (dropout that is never "
    "switched off, as F.dropout(x) without training=self.training, does that): layers were recovered on what chance "
    "made, agreement is with chance too, and nothing here can be relied on until that is mended in the network"
)


@dataclass(frozen=True)
class Prepared:
    """What a purification starts from.

    Attributes:
        working: A copy of the suspect to work on.
        anchor: State of the anchor, may be empty.
        sites: Layers in forward order.
        benign: Images.
        guesses: What was put into parameters and buffers outside these layers, in place of damage.
        guessed: Layers that may be shown what guesses make, or statistics estimated anew.
        damaged: Whether entries were found that no training produces.
        said: What the user must know of the images and of layers left alone.
        mended: Running statistics that the images contradict and that were estimated anew, by layer.
    """

    working: nn.Module
    anchor: Mapping[str, Tensor]
    sites: tuple[Site, ...]
    benign: Benign
    guesses: tuple[Guess, ...]
    guessed: frozenset[str]
    damaged: bool
    said: tuple[str, ...]
    mended: Mapping[str, Tensor]


def prepare(
    model: nn.Module,
    images: Tensor | Iterable[object],
    anchor: nn.Module | Mapping[str, Tensor] | None,
    method: str,
    *,
    limit: int,
    seed: int,
) -> Prepared:
    """Copy a suspect, find its layers, and replace damage that the walk would not see to.

    Args:
        model: The suspect; never modified.
        images: As `purify` takes them.
        anchor: What training started from, or None.
        method: As asked for.
        limit: Most images to keep.
        seed: Of their choice.

    Raises:
        InputError: Images, anchor and network do not fit, or there is nothing to recover.
    """
    working = working_copy(model, double=method == "exact")
    benign = gather(images, limit=limit, seed=seed, like=first_floating(working))
    few = benign.images[:2]
    sites = find_sites(working, few)
    if not any(site.geometry for site in sites):
        computed = parametrised_layers(working)
        why = told_parametrised(computed) if computed else "nothing to recover"
        plain = "plain " if computed else ""
        raise InputError(
            f"the network has no {plain}convolution or dense layer that these images reach: {why}"
        )
    if bool((benign.images == benign.images[:1]).all()):
        raise InputError(f"images: all {len(benign.images)} are the same picture; different ones are needed")
    unsteady = _unsteady(working, few)
    working = laid_out(adapted(working, benign.all()[0]), benign.images)
    origin, damaged = anchor_state(anchor, working), working_damage(working)
    guesses = mend_plain(working, sites, origin, damaged=damaged)
    damaged = damaged or bool(guesses)
    benign, said = _answered(working, benign, damaged=damaged)
    said = unsteady + said
    computed = parametrised_layers(working)
    said += (f"{told_parametrised(computed)}; here they were left as they are",) if computed else ()
    # Where there is other damage the walk sees to statistics, too.
    mended = {} if damaged or method != "auto" else mend_contradicted(working, sites, benign.to_try())
    guessed = reached_after(working, few, {*(guess.module for guess in guesses), *mended}, sites)
    return Prepared(working, origin, sites, benign, guesses, guessed, damaged, said, mended)


def _unsteady(working: nn.Module, few: Tensor) -> tuple[str, ...]:
    """Say so where a network in evaluation mode answers the same images differently each time."""
    first, again = (logits(working, [few.clone()]).nan_to_num(0.0, 0.0, 0.0) for _ in range(2))
    if bool((first - again).abs().max() <= _STEADY * first.abs().max()):
        return ()
    return (_RANDOM,)


def _answered(working: nn.Module, benign: Benign, *, damaged: bool) -> tuple[Benign, tuple[str, ...]]:
    """Leave images out that the network gives no numbers for, as one that divides by a picture's contrast may."""
    with coarsely(working, benign.images)():
        bad = ~logits(working, benign.all()).isfinite().all(1)
    count = int(bad.sum())
    if not count or (damaged and count == len(bad)):  # which its damage may be the cause of
        return benign, ()
    if len(bad) - count < FEWEST:
        raise InputError(
            f"images: to {count} of {len(bad)} of them the network answers NaN or Inf; at least {FEWEST} others are "
            "needed"
        )
    said = f"to {count} of {len(bad)} images the network answers NaN or Inf: they were left out"
    return benign.without(bad), (said,)
