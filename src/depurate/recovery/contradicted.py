"""Running statistics that benign images contradict, in a network whose other statistics they confirm."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from depurate.recovery.batchnorm import (
    measured_in_turn,
    read_statistics,
    unlike_measured,
    write_statistics,
)
from depurate.recovery.witness import own_strains
from depurate.spans import Site

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
    images = sum(map(len, batches))
    if images < 2 or all(site.geometry is not None for site in sites):
        return {}
    mended, found = copy.deepcopy(model), {}
    for name, module, kept, fresh in measured_in_turn(mended, sites, batches):
        found[name] = unlike_measured(kept, fresh)
        write_statistics(module, torch.where(found[name], fresh, kept))
    hits = torch.cat([mask.flatten() for mask in found.values()])
    if int(hits.sum()) < max(1, _SHARE * len(hits)):
        return {}
    limit = _CONFIRMED + _BY_CHANCE / (1 + 0.01 * images)
    if not _apart(mended, batches) < limit:  # also where it is NaN
        return {}
    found = {name: mask for name, mask in found.items() if mask.any()}
    for name in found:
        write_statistics(model.get_submodule(name), read_statistics(mended.get_submodule(name)))
    return found


def contradicted(model: nn.Module, sites: tuple[Site, ...], batches: list[Tensor]) -> dict[str, Tensor]:
    """Find running statistics that differ far from what benign images show, however few; nothing is changed.

    Args:
        model: Evaluation mode.
        sites: From `spans.find_sites`.
        batches: Benign images.

    Returns:
        Which they are, shape (2, channels), by the name of the layer.

    >>> net = nn.Sequential(nn.BatchNorm1d(40)).eval()
    >>> _ = net[0].running_mean[3].fill_(7)
    >>> images = [torch.randn(500, 40, generator=torch.Generator().manual_seed(0))]
    >>> contradicted(net, (Site("0", "BatchNorm1d", None, 1, 1),), images)["0"].nonzero().tolist()
    [[0, 3]]
    """
    if sum(map(len, batches)) < 2 or all(site.geometry is not None for site in sites):
        return {}
    found = {
        name: unlike_measured(kept, fresh) for name, _, kept, fresh in measured_in_turn(model, sites, batches)
    }
    return {name: mask for name, mask in found.items() if mask.any()}


def _apart(model: nn.Module, batches: list[Tensor]) -> float:
    """Strain of a network by its own statistics, a statistic."""
    strains = own_strains(model, batches)
    statistics = sum(2 * strain.channels for strain in strains)
    return sum(strain.means + strain.deviations for strain in strains) / statistics if strains else torch.nan
