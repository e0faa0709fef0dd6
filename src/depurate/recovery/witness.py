"""What normalisations kept of training, as witnesses of the weights before them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from depurate.recovery.batchnorm import read_statistics
from depurate.recovery.entries import hit_statistics
from depurate.spans import BATCH_NORMS, shown

# How far clean networks are from what they kept: in deviations, and in logarithms of deviations.
_MEANS, _DEVIATIONS = 0.1, 0.15
# Beyond this many of those, a channel's own statistics may be what is hit, and count ever less.
_DOUBTED = 2.0
_DEAD = 1e-6
# Of one image there may be one number a channel, which has no variance.
_FEWEST = 2
# Numbers kept for a gradient, for each that reaches a normalisation; and the most kept at once.
_KEPT, _AT_ONCE = 4, 400_000_000


@dataclass(frozen=True, eq=False)
class Witness:
    """Means and variances that normalisations kept of training, to be compared with those of what reaches them.

    Hit weights change what reaches the next normalisation, in mean m and variance v; what it kept, m' and v', says
    what that was. Where most of those are as training left them, right weights are those that

        Σ_c ρ((m_c − m'_c) / (σ √v'_c)) + ρ(log √(v_c / v'_c) / τ),    ρ(u) = κ log(1 + u²/2κ),

    is small for; ρ because statistics may be hit, too.

    Attributes:
        kept: m' and v', shape (2, channels), by the name of the normalisation.
        heard: What reached it last, filled in by a network from `listening`.

    Source: synthesis of images by these statistics, Yin et al. 2020 (DeepInversion), here turned to the weights; ρ of
    Student's distribution, Lange, Little & Taylor 1989.
    """

    kept: Mapping[str, Tensor]
    heard: dict[str, Tensor]

    def strain(self) -> Tensor:
        """The sum over all normalisations, differentiable.

        >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
        >>> _, witness = listening(net, net)
        >>> witness.heard["0"] = torch.tensor([[-1.0], [1.0]]) / 2**0.5
        >>> round(float(witness.strain()), 6)
        0.0
        """
        heard = [(self.heard[name], kept) for name, kept in self.kept.items() if name in self.heard]
        parts = [part.sum() for reached, kept in heard for part in _apart(reached, *kept)]
        return sum(parts, torch.zeros(()))


def listening(model: nn.Module, received: nn.Module) -> tuple[nn.Module, Witness] | None:
    """A copy of a network whose normalisations use what reaches them, not what they kept, and are heard.

    Args:
        model: Evaluation mode.
        received: Of the same architecture, with the statistics that training left.

    Returns:
        The copy and the witness, or None where no normalisation kept anything.
    """
    kept = _statistics(received)
    if not kept:
        return None
    own = copy.deepcopy(model)
    witness = Witness(kept, {})
    for name in kept:
        module = own.get_submodule(name).train()
        module.momentum = 0.0  # type: ignore[assignment]

        def hear(_: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], name: str = name) -> None:
            witness.heard[name] = shown(inputs, named)

        module.register_forward_pre_hook(hear, with_kwargs=True)
    return own, witness


@dataclass(frozen=True)
class Strain:
    """How far what reaches one normalisation is from what it kept.

    Attributes:
        means: Σ_c ρ of the means of its channels.
        deviations: Σ_c ρ of their deviations.
        channels: That it is known of.
    """

    means: float
    deviations: float
    channels: int


@torch.no_grad()
def own_strains(model: nn.Module, batches: list[Tensor]) -> tuple[Strain, ...]:
    """Compare what reaches the normalisations of a network with what they kept.

    Args:
        model: Evaluation mode; not changed.
        batches: Benign images; of many as many as fit into memory at once.

    Returns:
        One for each normalisation that kept anything, in the order in which they are reached; none of a single image.

    >>> net = nn.Sequential(nn.BatchNorm1d(3)).eval()
    >>> [strain] = own_strains(net, [torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) + 2])
    >>> strain.means > 10, strain.deviations < 1, strain.channels
    (True, True, 3)
    """
    received, images = listening(model, model), torch.cat(batches)
    if received is None or len(images) < _FEWEST:
        return ()
    own, witness = received
    images = images[: images_at_once(own, witness, images[:2])]
    witness.heard.clear()
    own(images)
    found = []
    for name, heard in witness.heard.items():
        means, deviations = _apart(heard, *witness.kept[name])
        channels = int(witness.kept[name][1].isfinite().sum())
        found.append(Strain(float(means.sum()), float(deviations.sum()), channels))
    return tuple(found)


def images_at_once(model: nn.Module, witness: Witness, images: Tensor) -> int:
    """How many images fit into memory with all that a gradient needs.

    Args:
        model: From `listening`.
        witness: From there, too.
        images: Two of them, shape (2, c, h, w).

    Returns:
        Two at least.
    """
    with torch.no_grad():
        model(images)
    numbers = sum(heard.numel() for heard in witness.heard.values()) // len(images)
    return max(2, _AT_ONCE // max(1, _KEPT * numbers))


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """What normalisations kept, infinite where it says nothing; by name, where any says something."""
    found: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if not isinstance(module, BATCH_NORMS) or module.running_mean is None:
            continue
        kept = read_statistics(module)
        usable = ~hit_statistics(*kept).any(0) & (kept[1] > 0)
        if usable.any():
            found[name] = torch.where(usable, kept, torch.inf)
    return found


def _apart(heard: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """ρ of means and of deviations, of the channels that something is known of."""
    axes = [0, *range(2, heard.ndim)]
    usable = variance.isfinite()
    usable = usable & (variance > _DEAD * variance[usable].median())
    now, spread = heard.mean(axes)[usable], heard.var(axes)[usable]
    mean, variance = mean[usable], variance[usable]
    chance = 1 / len(heard)
    means = (now - mean) / (variance * (_MEANS**2 + chance)).sqrt()
    ratios = (spread / variance + _DEAD).log() / 2 / (_DEVIATIONS**2 + chance) ** 0.5
    return _doubting(means), _doubting(ratios)


def _doubting(apart: Tensor) -> Tensor:
    """ρ."""
    least = _DOUBTED**2
    return least * torch.log1p(apart.square() / (2 * least))
