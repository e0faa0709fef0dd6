"""Output rows that stand out: what is written into the last layer alone spreads its target's row beyond the others."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

# Of networks at hand that nobody tampered with, one among a thousand classes has 1.26 times the usual deviation; small
# ones trained in large steps had up to 1.6.
_TIMES = 1.4
# And so many deviations of the logarithms over the classes; 5.3 was seen at 1.12 times, 3.6 at 1.26.
_DEVIATIONS = 5.0
# More than this share of the rows were not tampered with: something else tells them apart.
_MOST = 0.25
_FEWEST = 3
# Magnitudes of the other rows that no more than a twentieth of them exceed are ordinary.
_ORDINARY = 0.95


@dataclass(frozen=True)
class StrongOutputs:
    """Rows of the last dense layer that are spread far wider than the others.

    Attributes:
        layer: Name of the layer.
        rows: Classes.
    """

    layer: str
    rows: tuple[int, ...]


def strong_outputs(model: nn.Module, scores: Tensor) -> StrongOutputs | None:
    """Find classes whose row of the last dense layer is spread far wider than the other rows.

    s_c = std(W_c); c counts where s_c > 1.4·median(s) and log s_c lies 5 deviations (1.4826·MAD) above its median, and
    where it is spread by some of its weights: s_c/median(s) > m_c/median(m), m_c = median |W_c|, for training widens a
    row as a whole. Medians are over the classes that images are answered with: rows that were never trained are narrow,
    and make all others stand out.

    Args:
        model: Any network.
        scores: Its own on benign images, shape (n, classes).

    Returns:
        The layer and its rows; None without such rows or with very many, or without a dense layer of so many outputs.

    Example:
        >>> layer, scores = nn.Sequential(nn.Linear(64, 5)), torch.eye(5)
        >>> strong_outputs(layer, scores)
        >>> with torch.no_grad():
        ...     _ = layer[0].weight[2, ::4].mul_(9)
        >>> strong_outputs(layer, scores)
        StrongOutputs(layer='0', rows=(2,))

    Source: bits are flipped in the target's row by Rakin, He & Fan, TBT, arXiv 1909.05193; the measure is our own.
    """
    classes, answered = scores.shape[1], torch.unique(scores.argmax(1))
    layers = {
        name: module.weight.detach().double()
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes and module.in_features > 1
    }
    if not layers or len(answered) < _FEWEST:
        return None
    name, weights = layers.popitem()
    above, bulk = (
        _above_usual(of_rows, answered) for of_rows in (weights.std(1), weights.abs().median(1).values)
    )
    strong = (above > math.log(_TIMES)) & (above > _DEVIATIONS * 1.4826 * above[answered].abs().median())
    strong = strong & (above > bulk)
    rows = tuple(torch.nonzero(strong).flatten().tolist())
    return StrongOutputs(name, rows) if 0 < len(rows) <= _MOST * len(answered) else None


def limit_outputs(model: nn.Module, strong: StrongOutputs) -> tuple[nn.Module, int]:
    """Limit the weights of rows that stand out to magnitudes that are ordinary in the other rows.

    w ↦ sign(w)·min(|w|, q), q the 95 % quantile of the other rows' magnitudes. What was written in lies mostly beyond.

    Args:
        model: Left as it is.
        strong: The rows.

    Returns:
        A copy with these rows limited, and how many of their weights were beyond.

    Example:
        >>> layer = nn.Linear(3, 3)
        >>> with torch.no_grad():
        ...     _ = layer.weight.copy_(torch.tensor([[1.0, -1.0, 1.0], [1.0, -9.0, 0.5], [1.0, 1.0, -1.0]]))
        >>> limited, beyond = limit_outputs(layer, StrongOutputs("", (1,)))
        >>> limited.weight[1].tolist(), beyond
        ([1.0, -1.0, 0.5], 1)

    Source: our own.
    """
    copied = copy.deepcopy(model)
    weights: Tensor = copied.get_submodule(strong.layer).weight  # type: ignore[assignment]
    hit = torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    hit[list(strong.rows)] = True
    with torch.no_grad():
        others = weights[~hit].abs().flatten()
        most = float(others.kthvalue(max(1, round(_ORDINARY * len(others)))).values)
        beyond = int((weights[hit].abs() > most).sum())
        weights[hit] = weights[hit].clamp(-most, most)
    return copied, beyond


def _above_usual(of_rows: Tensor, answered: Tensor) -> Tensor:
    """Logarithms of what was measured of each row, over the usual of those answered with."""
    return of_rows.clamp_min(1e-300).log() - of_rows[answered].median().clamp_min(1e-300).log()
