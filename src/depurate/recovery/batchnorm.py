"""BatchNorm statistics, estimated anew on benign images that passed through the purified layers before them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from depurate.recovery.entries import hit_statistics
from depurate.spans import Passes, Site

# Statistics kept from training and measured on benign images differ by this much only where one was hit: times the
# channels' own typical difference, and at least so many deviations and so large a factor.
_TIMES = 8.0
_DEVIATIONS = 0.5
_FACTOR = 2.0
_MOSTLY = 0.5


def unlike_measured(kept: Tensor, measured: Tensor) -> Tensor:
    """Mark running statistics that differ from what benign images show far more than those of other channels do.

    Means are compared in measured standard deviations, variances by the logarithm of their ratio.

    Args:
        kept: Means and variances as received, shape (2, channels).
        measured: The same, measured.

    Returns:
        Boolean mask of the same shape.

    Example:
        >>> kept = torch.tensor([[0.0, 0.1, 5.0], [1.0, 1.1, 1.0]])
        >>> unlike_measured(kept, torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])).tolist()
        [[False, False, True], [False, False, False]]
    """
    variance = measured[1].clamp_min(1e-20)
    shift = (kept[0] - measured[0]).abs() / variance.sqrt()
    ratio = (kept[1].clamp_min(1e-20) / variance).log().abs()
    limits = torch.tensor([[_DEVIATIONS], [_FACTOR]]).to(kept)
    limits[1] = limits[1].log()
    apart = torch.stack([shift, ratio])
    # Channels that never fire have no variance to compare by.
    alive = measured[1] > 1e-6 * measured[1].median()
    typical = apart.nanmedian(1, keepdim=True).values.nan_to_num(0.0)
    return (apart > torch.maximum(limits, _TIMES * typical)) & alive


def least_variances(kept: Tensor, replaced: Tensor | None) -> Tensor:
    """Variances kept from training of channels whose kernels were mostly replaced; zero for all others.

    A kernel's conditional mean is smaller than the kernel, and new statistics would blow up what little it makes to the
    size of the whole.

    Args:
        kept: Means and variances as received, shape (2, channels).
        replaced: Entries replaced in the layer before, shape (groups, kernels, fan_in), or None.

    Returns:
        Shape (channels,); zero, too, where the layer before has another number of kernels.

    >>> least_variances(torch.tensor([[0.0, 0.0], [4.0, 9.0]]), torch.tensor([[[True, True], [True, False]]])).tolist()
    [4.0, 0.0]
    """
    nothing = torch.zeros_like(kept[1])
    if replaced is None or replaced.shape[0] * replaced.shape[1] != len(nothing):
        return nothing
    lost = replaced.flatten(0, 1).double().mean(1) > _MOSTLY
    return torch.where(lost & ~hit_statistics(*kept)[1] & (kept[1] > 0), kept[1], nothing)


def batch_statistics(model: nn.Module, site: Site, batches: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Measure mean and variance of what reaches a BatchNorm layer, over all images and positions.

    m_c = mean of channel c,  v_c = N/(N−1) · mean (x_c − m_c)², the unbiased variance that BatchNorm keeps.

    Args:
        model: The network, evaluation mode; layers before `site` are purified already.
        site: The BatchNorm layer.
        batches: Benign images.

    Returns:
        Mean and variance, each of shape (channels,), float64.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> mean, variance = batch_statistics(net, Site("0", "BatchNorm1d", None, 1, 1), [torch.tensor([[1.0], [3.0]])])
        >>> mean.item(), variance.item()
        (2.0, 2.0)
    """
    with Passes(model, [site], batches) as passes:
        return statistics_of_passes(passes, site)


def renew_statistics(
    model: nn.Module, sites: tuple[Site, ...], batches: list[Tensor], least: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Estimate all running statistics of a network anew, in place and in forward order.

    Args:
        model: Evaluation mode.
        sites: From `spans.find_sites`.
        batches: Benign images.
        least: Variances that new ones are to be no smaller than, shape (channels,), by the name of the layer.

    Returns:
        Means and variances by the name of the layer, shape (1, 2, channels).

    Example:
        >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> site = Site("0", "BatchNorm1d", None, 1, 1)
        >>> renew_statistics(net, (site,), [torch.tensor([[1.0], [3.0]])], {})["0"].flatten().tolist()
        [2.0, 2.0]
        >>> net[0].running_mean.item()
        2.0
    """
    found: dict[str, Tensor] = {}
    for name, module, _, fresh in measured_in_turn(model, sites, batches):
        if name in least:
            fresh[1] = torch.maximum(fresh[1], least[name])
        write_statistics(module, fresh)
        found[name] = fresh[None]
    return found


def measured_in_turn(
    model: nn.Module, sites: tuple[Site, ...], batches: list[Tensor]
) -> Iterator[tuple[str, nn.Module, Tensor, Tensor]]:
    """Visit a network's normalisations in forward order; what is written into one is what the next is measured behind.

    Args:
        model: Evaluation mode.
        sites: From `spans.find_sites`.
        batches: Benign images.

    Yields:
        Name, normalisation, its statistics as kept, and as measured, each of shape (2, channels).
    """
    sites = tuple(site for site in sites if site.geometry is None)
    with Passes(model, sites, batches) as passes:
        for site in sites:
            module = model.get_submodule(site.name)
            kept = read_statistics(module)
            yield site.name, module, kept, torch.stack(statistics_of_passes(passes, site)).to(kept)


def read_statistics(module: nn.Module) -> Tensor:
    """Means and variances that a normalisation keeps, shape (2, channels)."""
    return torch.stack([module.get_buffer("running_mean"), module.get_buffer("running_var")])


def write_statistics(module: nn.Module, statistics: Tensor) -> None:
    """Write means and variances, shape (2, channels), into a normalisation."""
    with torch.no_grad():
        module.get_buffer("running_mean").copy_(statistics[0])
        module.get_buffer("running_var").copy_(statistics[1])


def statistics_of_passes(passes: Passes, site: Site, skipped: Collection[int] = ()) -> tuple[Tensor, Tensor]:
    """Measure as `batch_statistics` does, on passes that may go on afterwards.

    Args:
        passes: Of benign images through the network.
        site: The BatchNorm layer.
        skipped: Places of batches that do not count.

    Returns:
        Mean and variance, each of shape (channels,), float64.
    """
    count = 0
    mean: Tensor | None = None
    scatter: Tensor | None = None
    places = [place for place in passes.places(site) if place not in skipped]
    for calls in passes.inputs(site, places):
        for inputs in calls:
            # About the mean, so that nothing cancels; in plain sums, which take a third of the time of `var`.
            axes, values = [0, *range(2, inputs.ndim)], inputs.double()
            centre = values.mean(axes, keepdim=True)
            here, spread = centre.flatten(), (values - centre).square_().sum(axes)
            size = inputs.numel() // inputs.shape[1]
            if mean is None or scatter is None:
                mean, scatter, count = here, spread, size
                continue
            # Chan's pairwise update: sums of squares would cancel where a channel's mean dwarfs its deviation.
            step = here - mean
            scatter = scatter + spread + step.square() * (count * size / (count + size))
            mean = mean + step * (size / (count + size))
            count += size
    assert mean is not None
    assert scatter is not None
    return mean, scatter / max(count - 1, 1)
