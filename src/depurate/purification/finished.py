"""The outcome of a walk, and what one made without a part of the images shows on that part."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from depurate.purification.listing import first_names
from depurate.recovery import Agreement, Guessed, LayerRecord

_SCALES = (
    "scales and shifts of normalisations: {found:,} of {size:,} in {names} do not fit the others and were replaced, "
    "all others returned bit for bit"
)


@dataclass(frozen=True)
class Finished:
    """The outcome of the final walk.

    Attributes:
        suspect: With its certain hits filled.
        purified: The purified network.
        layers: Its account.
        images: Benign ones that it was made with.
        scales: Scales and shifts of normalisations that were replaced, which the account of layers leaves out.
        noisy: Whether noise that was found is left in it.
    """

    suspect: nn.Module
    purified: nn.Module
    layers: tuple[LayerRecord, ...]
    images: int
    scales: tuple[Guessed, ...] = ()
    noisy: bool = False

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the account of layers leaves out, in words."""
        if not self.scales:
            return ()
        names = first_names(scale.name for scale in self.scales)
        found, size = (sum(counts) for counts in zip(*((s.hit, s.entries) for s in self.scales), strict=True))
        return (_SCALES.format(found=found, size=size, names=names),)


@dataclass(frozen=True)
class Rehearsal:
    """A recovery made without one fold of the images.

    Attributes:
        agreement: On that fold.
        left: How often each of the triggers asked for still works there.
        done: The recovery with its account, where it may be the last one.
    """

    agreement: Agreement
    left: list[float]
    done: Finished | None = None
