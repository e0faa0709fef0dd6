"""Running statistics that benign images contradict, in a network whose other statistics they confirm."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from depurate.recovery.batchnorm import statistics_of_passes, unlike_measured, write_statistics
from depurate.recovery.witness import images_at_once, listening
from depurate.spans import Passes, Site

# Healthy networks have up to 0.3 % of their own that differ so far: channels that fire for few images only.
_SHARE = 0.01
# By `Witness.strain` a statistic: networks at hand that nobody damaged show at most 0.02, shown other pictures 0.06,
# with a hundredth of their weights hit over 0.1. And what few images may show by chance, at most.
_CONFIRMED, _BY_CHANCE = 0.05, 0.25


def mend_contradicted(model: nn.Module, sites: tuple[Site, ...], batches: list[Tensor]) -> dict[str, Tensor]:
    """Replace running statistics that differ far from what benign images show, where all others fit; in place.

    Hit statistics of one layer shift all that comes after it, so layers are looked at in forward order, each behind
    mended ones. Where weights are hit the others do not fit, either, and nothing is changed.

    Args:
        model: Evaluation mode; changed where statistics are contradicted.
        sites: From `spans.find_sites`.
        batches: Benign images.

    Returns:
        Which of them were replaced, shape (2, channels), by the name of the layer; empty where nothing was.

    >>> generator = torch.Generator().manual_seed(0)
    >>> net = nn.Sequential(nn.BatchNorm1d(40)).eval()
    >>> images = [torch.randn(500, 40, generator=generator)]
    >>> mend_contradicted(net, (Site("0", "BatchNorm1d", None, 1, 1),), images)
    {}
    >>> _ = net[0].running_var[3:5].zero_()
    >>> found = mend_contradicted(net, (Site("0", "BatchNorm1d", None, 1, 1),), images)
    >>> found["0"].nonzero().tolist()
    [[1, 3], [1, 4]]
    """
    normalisations = tuple(site for site in sites if site.geometry is None)
    images = sum(map(len, batches))
    if not normalisations or images < 2:
        return {}
    mended = copy.deepcopy(model)
    found = _mend(mended, normalisations, batches)
    looked_at = sum(mask.numel() for mask in found.values())
    if sum(int(mask.sum()) for mask in found.values()) < max(1, _SHARE * looked_at):
        return {}
    limit = _CONFIRMED + _BY_CHANCE / (1 + 0.01 * images)
    if not _apart(mended, batches) < limit:  # also where it is NaN
        return {}
    for name, mask in found.items():
        if mask.any():
            module = mended.get_submodule(name)
            fresh = torch.stack([module.get_buffer("running_mean"), module.get_buffer("running_var")])
            write_statistics(model.get_submodule(name), fresh)
    return {name: mask for name, mask in found.items() if mask.any()}


def _mend(model: nn.Module, sites: tuple[Site, ...], batches: list[Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with Passes(model, sites, batches) as passes:
        for site in sites:
            module = model.get_submodule(site.name)
            kept = torch.stack([module.get_buffer("running_mean"), module.get_buffer("running_var")])
            fresh = torch.stack(statistics_of_passes(passes, site)).to(kept)
            mask = unlike_measured(kept, fresh)
            write_statistics(module, torch.where(mask, fresh, kept))
            found[site.name] = mask
    return found


@torch.no_grad()
def _apart(model: nn.Module, batches: list[Tensor]) -> float:
    """Strain of a network by its own statistics, a statistic."""
    heard = listening(model, model)
    if heard is None:
        return torch.nan
    own, witness = heard
    images = torch.cat(batches)
    images = images[: images_at_once(own, witness, images[:2])]
    own(images)
    return float(witness.strain()) / sum(2 * int(kept[1].isfinite().sum()) for kept in witness.kept.values())
