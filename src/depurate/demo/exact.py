"""First half of the demo: the paper's network on real digits, hit hard, recovered exactly and certified."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.contamination import Gaussian
from depurate.demo.digits import Digits
from depurate.paper import contaminate_network, disjoint_patches, recover, relative_errors, train
from depurate.paper.network import PatchNetwork

_SHEETS = 10
_SIDE = 8  # digits along each side of a sheet
_PATCH = 32  # pixels along each side of a patch: 4x4 digits
_UNITS = 500
# The noise is drawn from a stream that shares nothing with the one of the initial weights.
_NOISE = 2_000_000


@dataclass(frozen=True)
class ExactDemo:
    """What came of it.

    Attributes:
        fraction: ε, the share of weights that were hit.
        hit: Relative error of the contaminated kernels, worst over kernels.
        kernels: Relative error of the recovered kernels, worst over kernels.
        output: Relative error of the recovered output weights β.
        certified: Recovered kernels and output weights that are certified, and how many there are.
        seconds: Time of the recovery.
    """

    fraction: float
    hit: float
    kernels: float
    output: float
    certified: tuple[int, int]
    seconds: float


def run_exact(digits: Digits, *, fraction: float, seed: int) -> ExactDemo:
    """Train the one-hidden-layer network on 10 sheets of 64 digits, contaminate it, recover it.

    Args:
        digits: Where the images come from. Sheets are 64x64 pixels in 4 patches of 32x32, so that a kernel has
            1,024 weights and the 40 patches leave room around their span, as the theory asks.
        fraction: ε.
        seed: Of the initialisation and the noise.

    Returns:
        Errors before and after, and what is certified.
    """
    images, targets = _sheets(digits)
    patches = disjoint_patches(images, (_PATCH, _PATCH))
    start = PatchNetwork.initialise(_UNITS, _PATCH * _PATCH, seed=seed)
    trained = train(start, patches, targets)
    suspect = contaminate_network(trained.final, fraction, Gaussian(1.0), seed=_NOISE + seed)
    recovery = recover(suspect, trained.initial, patches)
    errors = relative_errors(recovery, trained.final)
    clean = trained.final.kernels
    hit = torch.linalg.vector_norm(suspect.kernels - clean, dim=1) / torch.linalg.vector_norm(clean, dim=1)
    return ExactDemo(
        fraction=fraction,
        hit=float(hit.max()),
        kernels=float(errors.kernels.max()),
        output=errors.output,
        certified=(int(recovery.kernels_certified.sum()) + int(recovery.output_certified), _UNITS + 1),
        seconds=recovery.seconds,
    )


def _sheets(digits: Digits) -> tuple[Tensor, Tensor]:
    """Sheets of 8x8 digits side by side, shape (10, 1, 64, 64), and the mean digit of each sheet, centred."""
    taken = _SHEETS * _SIDE * _SIDE
    tiles = digits.train[:taken].double().reshape(_SHEETS, _SIDE, _SIDE, 8, 8)
    sheets = tiles.permute(0, 1, 3, 2, 4).reshape(_SHEETS, 1, 8 * _SIDE, 8 * _SIDE)
    means = digits.train_labels[:taken].double().reshape(_SHEETS, -1).mean(1)
    return sheets, means - means.mean()
