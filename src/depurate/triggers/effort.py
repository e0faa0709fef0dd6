"""How much a search looks at: large pictures cost a network more each, so fewer of them are shown and more coarsely."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

# Numbers in a picture from which it is large: three channels of 105 by 105 pixels.
_LARGE = 1 << 15
CELLS = 32
"""Pictures are searched as if they had about so many cells along a side."""


@dataclass(frozen=True)
class Effort:
    """How many images things are tried on.

    On ResNets for CIFAR-10 four images a step told the same classes apart that twelve did, at a third of the cost, and
    so did three fifths of the steps where each goes further.

    Attributes:
        pool: Images that are used at all; None for no limit.
        precise: Whether squares are tried at every pixel, so that one that works may be taken for the planted one;
            otherwise others like it are taken along.
        keeps: Whether a trial recovery that is good enough is the result, made without the images held back.
        draws: Whether triggers drawn for each image are looked for: of large pictures small networks see too little and
            cost too much.
        middles: Whether searches by descent are shown the middles of pictures, where a network answers these alike.
        outlying: Share of the usual size under which a patch is suspicious.
        times: Of the images a step that a search asks for.
        more: Multiple of the images where a search is for one class only.
        steps: Share of the steps that a search asks for.
        pace: Multiple of the step length that a search asks for.
        judged: On which a trigger found is judged.
        narrowed: With which many classes are narrowed down, and on `counted` of which their share is taken.
        counted: Images.
        together: Squares that a scan puts on one image at first.
        shown: Images for each square of a scan, or for those put on one image; `again` squares are looked at again.
        again: Squares.
        few: To sort squares, `some` to move them about, and `many` to judge the best with.
        some: Images.
        many: Images.
        promising: Share of the images on which a square near a patch has to work to be tried all over the picture.
        waves: Images that every wave is tried on.
        phases: Of every wave.
        changes: Images that every plain change of the whole picture is tried on at first.
        changed: Share of the images that a plain change has to turn: of small pictures healthy networks had 0.06 at
            most, 0.24 and more where the change was akin to the trigger.
        compared: Classes, those with the smallest patches, for which patches are searched for that the purified self
            ignores; None for all.
    """

    pool: int | None
    precise: bool
    keeps: bool
    draws: bool
    middles: bool
    outlying: float
    times: float
    more: int
    steps: float
    pace: float
    judged: int
    narrowed: int
    counted: int
    together: int
    shown: int
    again: int
    few: int
    some: int
    many: int
    promising: float
    waves: int
    phases: int
    changes: int
    changed: float
    compared: int | None

    def a_step(self, wanted: int) -> int:
        """Images a step where a search asks for some."""
        return max(1, round(self.times * wanted))

    def of_steps(self, wanted: int) -> int:
        """Steps where a search asks for some."""
        return max(1, round(self.steps * wanted))


_ON_SMALL = Effort(
    pool=None,
    precise=True,
    keeps=False,
    draws=True,
    middles=False,
    outlying=0.5,
    times=1,
    more=4,
    steps=1,
    pace=1,
    judged=128,
    narrowed=64,
    counted=64,
    together=1,
    shown=3,
    again=12,
    few=6,
    some=12,
    many=48,
    promising=0.9,
    waves=12,
    phases=4,
    changes=48,
    changed=0.2,
    compared=None,
)
# In the middles of pictures classes that were no target had 0.38 of the usual size and more, planted ones 0.03 to 0.08.
# A healthy network, trained for one pass, had 0.21 by plain changes, which small pictures of healthy ones never had.
# A square that only fits a coarse grid works less well near the patch than it may where it was planted.
_ON_LARGE = Effort(
    pool=128,
    precise=False,
    keeps=True,
    draws=False,
    middles=True,
    outlying=0.25,
    times=1 / 3,
    more=2,
    steps=0.6,
    pace=8 / 3,
    judged=48,
    narrowed=8,
    counted=48,
    together=4,
    shown=1,
    again=48,
    few=2,
    some=8,
    many=24,
    promising=0.5,
    waves=8,
    phases=1,
    changes=16,
    changed=0.35,
    compared=5,
)


def effort_on(images: Tensor) -> Effort:
    """How much is looked at in images of shape (n, c, h, w).

    >>> effort_on(torch.zeros(1, 3, 32, 32)).judged, effort_on(torch.zeros(1, 3, 224, 224)).judged
    (128, 48)
    """
    return _ON_LARGE if _large(images) else _ON_SMALL


def cell_of(images: Tensor) -> int:
    """Pixels along the side of a cell, the finest detail that a search knows: one in pictures of up to 63 pixels.

    >>> cell_of(torch.zeros(1, 1, 28, 28)), cell_of(torch.zeros(1, 3, 224, 224))
    (1, 7)
    """
    return max(1, min(images.shape[2:]) // CELLS)


def quickly(images: Tensor) -> AbstractContextManager[object]:
    """Compute in bfloat16 inside where the machine is quicker in it on such pictures: about a hundred times coarser.

    A ResNet-18 takes half the time at 224 pixels on processors that have the instructions; on small pictures only
    matrix units gain: a ResNet-14 and its slopes take two fifths of the time, a LeNet a quarter.
    """
    if images.device.type == "cpu":
        able = _multiplies_in_bfloat16() if _large(images) else _has_matrix_units()
    else:
        large = _large(images) and images.device.type == "cuda"
        able = large and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.autocast(images.device.type, torch.bfloat16) if able else nullcontext()


def _multiplies_in_bfloat16() -> bool:
    """Whether this processor has units for it; a ResNet-18 at 224 pixels took half the time on one that has.

    The instructions alone are not enough: one that has those for half precision, too, but no matrix units took half
    as long again.
    """
    told = _capabilities()
    vectors = bool(told.get("avx512_bf16")) and not told.get("avx512_fp16")
    return vectors or _has_matrix_units()


def _has_matrix_units() -> bool:
    return bool(_capabilities().get("amx_bf16"))


def _capabilities() -> dict[str, object]:
    # Older versions of torch do not tell.
    told: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return told


def _large(images: Tensor) -> bool:
    return images[0].numel() > _LARGE
