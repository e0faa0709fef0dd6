"""What the numbers of a layer alone say of sparse noise, without images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.recovery.mixture import Prior, fit_hits
from depurate.recovery.sizes import NEXT_TO_NOTHING, harmless_size, rough_scales

# No weight of 42 networks that nobody damaged was larger by nature than 11 of the scales that its kernel and place
# have, and of one in 60,000 of theirs over 10.
_FAR = 15.0


@dataclass(frozen=True)
class FirstLook:
    """Evidence of sparse noise.

    Attributes:
        share: Of the entries that are hit, as the mixture of good and hit ones estimates it.
        far: Of the entries that are larger than any by nature.
    """

    share: float
    far: float


def first_look(kernels: Tensor, anchor: Tensor, certain: Tensor) -> FirstLook:
    """Estimate the share of hit entries from the numbers alone, without images.

    Args:
        kernels: Shape (groups, kernels, fan_in).
        anchor: Same shape; zero where unknown.
        certain: Entries hit beyond doubt, same shape, bool; they are not counted.

    Returns:
        The evidence.

    >>> weights = torch.randn(1, 50, 60, generator=torch.Generator().manual_seed(0))
    >>> first_look(weights, torch.zeros_like(weights), torch.zeros_like(weights, dtype=torch.bool)).far
    0.0
    """
    flat = kernels.shape[2]
    known = (certain | ~kernels.isfinite()).reshape(-1, flat)
    weights = torch.where(known, anchor.reshape(-1, flat), kernels.reshape(-1, flat)).float()
    update, harmless = weights - anchor.reshape(-1, flat).float(), harmless_size(weights)
    if harmless == 0 or bool(known.all()):
        return FirstLook(0.0, 0.0)
    scales = rough_scales(update, known, harmless, bursts=True)
    told = ~known & (update.abs() > NEXT_TO_NOTHING * harmless)
    model = fit_hits(update[told], scales[told], Prior(0.25, 3.0, 0.6))
    far = update[~known].abs() > _FAR * scales[~known]
    return FirstLook(model.share, float(far.double().mean()))
