"""The paper's recovery as written, applied to a deep network layer by layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from depurate.purification.copies import anchor_state, like_the_original, rounding_of, working_copy
from depurate.recovery import Rounding, anchor_kernels, exact_recovery
from depurate.spans import (
    Moments,
    Passes,
    Sampling,
    find_sites,
    measure_passes,
    read_kernels,
    span_of,
    write_kernels,
)


def recover_layers(
    model: nn.Module, images: Sequence[Tensor], anchor: nn.Module
) -> tuple[nn.Module, int, int]:
    """l1 on the whole span of every layer's patches, in forward order, and nothing else.

    Where there are as many independent patches as a kernel has numbers, the span is everything, the fit is perfect
    and the layer comes back as it was; so does one whose patches are no longer finite. Nothing is cut off, no
    statistics are renewed, and entries that are plainly damaged are left to l1: the paper has none of that.

    Args:
        model: The suspect; not changed.
        images: Benign images in batches, normalised.
        anchor: What training started from.

    Returns:
        The recovered network, how many of its layers have room around their span, and how many layers there are.
    """
    recovered, rounding = working_copy(model, double=True), rounding_of(model, anchor)
    batches = [batch.double() for batch in images]
    sites = find_sites(recovered, batches[0][:2])
    state = anchor_state(anchor, recovered)
    room = layers = 0
    with Passes(recovered, sites, batches) as passes:
        for site in sites:
            if site.geometry is None:
                continue
            layers += 1
            module = recovered.get_submodule(site.name)
            received = read_kernels(module)
            moments = measure_passes(None, passes, site, received, Sampling())
            found = _recover(
                moments, received, anchor_kernels(state, site.name, received), rounding[site.name]
            )
            room += found is not None
            if found is not None:
                write_kernels(module, found)
    return like_the_original(model, recovered), room, layers


def _recover(moments: Moments, received: Tensor, origin: Tensor | None, rounding: Rounding) -> Tensor | None:
    """The layer's kernels by l1, or None where there is no room for noise around the span."""
    known = moments.rows if moments.gram is None else moments.gram
    if not bool(known.isfinite().all() and received.isfinite().all()):
        return None
    spans = [span_of(moments, group) for group in range(len(received))]
    if any(span.full for span in spans):
        return None
    start = torch.zeros_like(received) if origin is None else origin
    return torch.stack(
        [exact_recovery(span, received[g], start[g], rounding).kernels for g, span in enumerate(spans)]
    )
