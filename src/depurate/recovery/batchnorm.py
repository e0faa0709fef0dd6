"""BatchNorm statistics, estimated anew on benign images that passed through the purified layers before them."""

from __future__ import annotations

from torch import Tensor, nn

from depurate.spans import Site, run_to


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
    count = 0
    mean: Tensor | None = None
    scatter: Tensor | None = None

    def collect(inputs: Tensor, _: Tensor) -> None:
        nonlocal count, mean, scatter
        values = inputs.transpose(0, 1).flatten(1).double()
        here, spread, size = values.mean(1), values.var(1, correction=0) * values.shape[1], values.shape[1]
        if mean is None or scatter is None:
            mean, scatter, count = here, spread, size
            return
        # Chan's pairwise update: sums of squares would cancel where a channel's mean dwarfs its deviation.
        step = here - mean
        scatter = scatter + spread + step.square() * (count * size / (count + size))
        mean = mean + step * (size / (count + size))
        count += size

    for batch in batches:
        run_to(model, site, batch, collect, need_output=False)
    assert mean is not None
    assert scatter is not None
    return mean, scatter / max(count - 1, 1)
