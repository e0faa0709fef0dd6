"""Scales and shifts of a normalisation lost as a whole: what those behind it kept of training decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from depurate.recovery.scales import PARTS, Vector
from depurate.recovery.surety import Surety
from depurate.spans import key_of

# Nats by which the network has to be better off without a vector: a ResNet-14 was by 105 to 1,029 without lost ones,
# and worse off by 51 to 478 without good ones that vary as much (500 images).
_BETTER = 10.0


def lost_vectors(
    model: nn.Module,
    doubted: Mapping[Vector, Tensor],
    batches: list[Tensor],
    read: Callable[[object], Tensor],
    received: nn.Module,
) -> frozenset[Vector]:
    """Decide which of some vectors are lost as a whole, one after the other, in a network repaired around them.

    One is lost if S(filled) < S(as repaired) − 10, S from `Surety`: statistics that normalisations kept of training,
    which are not met where scales and shifts before them are noise, and answers that are sure.

    Args:
        model: Repaired, evaluation mode; not changed.
        doubted: What each would be filled with, shape (channels,), by name and column.
        batches: Benign images.
        read: Takes the scores, shape (n, classes), from what the network returns.
        received: The network before it was repaired, with the statistics that training left.

    Returns:
        Those that are lost; none where no normalisation kept anything.

    Source: our own; for S see `Surety`.
    """
    if not doubted:
        return frozenset()
    sure = Surety.of(model, batches, read, received)
    if sure.witness is None:
        return frozenset()
    now, chosen, lost = sure.cost({}), dict[str, Tensor](), set[Vector]()
    for (name, column), filled in doubted.items():
        key = key_of(name, PARTS[column])
        tried = chosen | {key: filled.to(model.get_parameter(key))}
        without = sure.cost(tried)
        if without < now - _BETTER:
            now, chosen = without, tried
            lost.add((name, column))
    return frozenset(lost)
