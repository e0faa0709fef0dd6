"""Records of layers brought up to date with what was done before the walk, or after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from depurate.analysis.layers import histogram_of, moved_by, noise_of
from depurate.recovery import Guarantee, LayerOutcome, LayerRecord, read_statistics
from depurate.spans import BATCH_NORMS, read_kernels

_THEN = "then recovered from the repaired layer, as a backdoor was found in the repaired network"


def brought_up(record: LayerRecord, outcome: LayerOutcome, note: str) -> LayerRecord:
    """Bring a layer's record up to date after its kernels were changed together with those of other layers.

    Args:
        record: From `describe`.
        outcome: Of the same layer, with the kernels as they are now.
        note: What was done.

    Returns:
        A new record. Its spectrum is that of before.
    """
    if outcome.repair is not None:
        record = replace(
            record,
            contaminated=int(outcome.hits.sum()),
            noise=noise_of(outcome),
            residuals=histogram_of(outcome.suspect, outcome.purified, outcome.anchor),
        )
    return replace(record, moved=moved_by(outcome.suspect, outcome.purified), notes=(*record.notes, note))


def with_mended(
    layers: tuple[LayerRecord, ...], mended: Mapping[str, Tensor], received: nn.Module, purified: nn.Module
) -> tuple[LayerRecord, ...]:
    """Records that tell of running statistics replaced before the walk.

    Args:
        layers: Of all layers.
        mended: Which were replaced, shape (2, channels), by the name of the layer.
        received: The network as received.
        purified: As it is returned.

    Returns:
        New records.
    """
    return tuple(
        _mended(
            layer,
            mended[layer.name],
            received.get_submodule(layer.name),
            purified.get_submodule(layer.name),
        )
        if layer.name in mended
        else layer
        for layer in layers
    )


def after_repair(
    layers: tuple[LayerRecord, ...],
    repaired: tuple[LayerRecord, ...],
    received: nn.Module,
    purified: nn.Module,
) -> tuple[LayerRecord, ...]:
    """Records of layers that were repaired first and recovered then, of both.

    Args:
        layers: Of the recovery, which took the repaired network for the suspect.
        repaired: Of the repair; may be empty, where there was none.
        received: The network as received.
        purified: As it is returned.

    Returns:
        New records.
    """
    if not repaired:
        return layers
    return tuple(
        _after_repair(layer, repair, received.get_submodule(layer.name), purified.get_submodule(layer.name))
        for layer, repair in zip(layers, repaired, strict=True)
    )


def _after_repair(
    record: LayerRecord, repair: LayerRecord, received: nn.Module, purified: nn.Module
) -> LayerRecord:
    if record.guarantee is Guarantee.UNCHANGED:  # the repair is all that happened
        return repair
    read = read_statistics if isinstance(received, BATCH_NORMS) else read_kernels
    before, after = read(received), read(purified)
    return replace(
        record,
        nonfinite=repair.nonfinite,
        contaminated=repair.contaminated,
        noise=repair.noise,
        moved=moved_by(before, after),
        off_span=record.off_span if repair.off_span is None else repair.off_span,
        residuals=None if record.residuals is None else histogram_of(before, after),
        notes=(*repair.notes, _THEN, *record.notes),
        seconds=repair.seconds + record.seconds,
    )


def _mended(record: LayerRecord, mask: Tensor, received: nn.Module, purified: nn.Module) -> LayerRecord:
    hit, size = int(mask.sum()), mask.numel()
    note = f"{hit:,} of {size:,} running statistics contradict the benign images: estimated anew on these"
    if record.method == "none":
        note += ", all others returned bit for bit"
    return replace(
        record,
        method="statistics",
        contaminated=max(hit, record.contaminated),
        moved=moved_by(read_statistics(received), read_statistics(purified)),
        guarantee=Guarantee.APPROXIMATE,
        notes=(note, *record.notes),
    )
