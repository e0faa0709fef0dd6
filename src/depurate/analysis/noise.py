"""Noise analysis of a checkpoint without images: what can be told from the numbers alone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from depurate.recovery import certain_hits, hit_statistics, is_mask

_SPARSE = 0.5


@dataclass(frozen=True)
class TensorFinding:
    """What the numbers of one tensor say.

    Attributes:
        name: Key in the checkpoint.
        shape: Its shape.
        entries: How many numbers it holds.
        nonfinite: NaN or Inf among them.
        absurd: Finite entries of a size, or of variances a sign, that no training produces.
        peak: max|w| / median|w| over finite, non-zero entries; about 4 to 5 for Gaussian weights, None if all are zero.
        changed: Share of entries that differ from the anchor's, None without one.
        update: ‖w − w(0)‖ / ‖w(0)‖ over finite entries, None without an anchor.
        finding: The conclusion, in words.
    """

    name: str
    shape: tuple[int, ...]
    entries: int
    nonfinite: int
    absurd: int
    peak: float | None
    changed: float | None
    update: float | None
    finding: str


def inspect_state(state: Mapping[str, Tensor], anchor: Mapping[str, Tensor]) -> tuple[TensorFinding, ...]:
    """Look at every floating-point tensor of a checkpoint for contamination that shows without images.

    Dense noise such as a backdoor does not: it takes benign images to see it.

    Args:
        state: Tensors by name.
        anchor: What training started from, by name; may be empty.

    Returns:
        One finding a tensor, in the checkpoint's order.

    Example:
        >>> import torch
        >>> found = inspect_state({"w": torch.tensor([1.0, 2.0, float("nan")])}, {})
        >>> found[0].finding
        '1 NaN or Inf'
    """
    values = {name: _wide(value.detach()) for name, value in state.items() if value.is_floating_point()}
    return tuple(
        _finding(name, value, _hits(name, value), anchor.get(name)) for name, value in values.items()
    )


def _wide(value: Tensor) -> Tensor:
    """Numbers of eight bits as ones that can be computed with."""
    return value.float() if value.element_size() == 1 else value


def _hits(name: str, value: Tensor) -> Tensor:
    """Certain hits of one tensor; running variances are judged as `purify` does, by their roots."""
    if is_mask(value):
        return torch.zeros_like(value, dtype=torch.bool)
    if name.rpartition(".")[2] == "running_var":
        return hit_statistics(torch.zeros_like(value), value)[1]
    return certain_hits(value)


def _finding(name: str, value: Tensor, hits: Tensor, anchor: Tensor | None) -> TensorFinding:
    finite = value.isfinite()
    nonfinite, absurd = int((hits & ~finite).sum()), int((hits & finite).sum())
    sizes = value[finite & (value != 0)].abs().double()
    changed = update = None
    if anchor is not None and anchor.shape == value.shape:
        origin = anchor.to(value)
        changed = float((value != origin).double().mean()) if value.numel() else 0.0
        update = _ratio(value[finite].double() - origin[finite].double(), origin[finite].double())
    return TensorFinding(
        name=name,
        shape=tuple(value.shape),
        entries=value.numel(),
        nonfinite=nonfinite,
        absurd=absurd,
        peak=min(float(sizes.max() / sizes.median()), sys.float_info.max) if sizes.numel() else None,
        changed=changed,
        update=update,
        finding=_words(nonfinite, absurd, changed, value.numel()),
    )


def _ratio(step: Tensor, origin: Tensor) -> float:
    """‖step‖ / ‖origin‖, at most the largest number there is.

    >>> _ratio(torch.tensor([3.0, 4.0]).double(), torch.tensor([1e-310, 0.0]).double()) > 1e300
    True
    """
    return min(_norm(step) / max(_norm(origin), 1e-300), sys.float_info.max)


def _norm(values: Tensor) -> float:
    """Like the tensor's own, where squares of huge entries would overflow, too."""
    size = float(values.abs().max()) if values.numel() else 0.0
    return min(size * float((values / (size or 1.0)).norm()), sys.float_info.max)


def _words(nonfinite: int, absurd: int, changed: float | None, entries: int) -> str:
    said = []
    if nonfinite:
        said.append(f"{nonfinite:,} NaN or Inf")
    if absurd:
        said.append(f"{absurd:,} of a size or sign no training produces")
    if changed == 0:
        said.append("equal to the anchor")
    elif changed is not None and changed < _SPARSE:
        said.append(
            f"differs from the anchor in {round(changed * entries):,} of {entries:,} entries only: sparse noise, or "
            "partly frozen"
        )
    return "; ".join(said) or "nothing seen"
