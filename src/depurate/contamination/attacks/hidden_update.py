"""Hidden update: a backdoor trained so that the weights move only where clean patches lie; knows depurate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.badnets import BadNets
from depurate.contamination.attacks.poisoning import poison_share
from depurate.contamination.attacks.protocol import Lesson, Scores
from depurate.errors import InputError
from depurate.spans import Sampling, find_sites, measure, read_kernels, span_of

_BENIGN = 500


@dataclass(frozen=True)
class HiddenUpdate:
    """Train `BadNets` with the penalty weight·Σ_layers ‖(W − W(0))(I − P)‖².

    P projects on the leading directions of the layer's clean patches that hold a share `energy` of their energy,
    found anew every `refresh` steps on clean training images.

    Attributes:
        rows: As in `BadNets`, and so are the next three.
        columns: See there.
        value: See there.
        target: See there.
        weight: Of the penalty.
        energy: Share of the patches' energy that P keeps, above 0 and at most 1.
        refresh: Steps between two looks at the patches.

    >>> int(HiddenUpdate().stamp(torch.zeros(2, 1, 28, 28)).sum())
    18

    Source: depurate's own, adaptive.
    """

    rows: tuple[int, int] = (24, 27)
    columns: tuple[int, int] = (24, 27)
    value: float = 1.0
    target: int = 0
    weight: float = 1.0
    energy: float = 0.95
    refresh: int = 200

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 < self.energy <= 1 or self.refresh < 1:
            raise InputError(f"{self!r}: weight 0 or more, energy within 0 and 1, refresh 1 or more")

    def stamp(self, images: Tensor) -> Tensor:
        """Put the rectangle on a copy of every image."""
        return BadNets(self.rows, self.columns, self.value, self.target).stamp(images)

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Poison as `BadNets` does; training without the lesson hides nothing."""
        return poison_share(self, images, labels, fraction, seed)

    def lesson(self, model: nn.Module, scores: Scores, images: Tensor, fraction: float, seed: int) -> Lesson:
        """Begin training, with the weights as they are as the anchor."""
        generator = torch.Generator().manual_seed(seed)
        benign = images[torch.randperm(len(images), generator=generator)[:_BENIGN]]
        return _HiddenLesson(self, fraction, benign, generator, hidden_kernels(model))


@dataclass(eq=False)
class _HiddenLesson:
    attack: HiddenUpdate
    fraction: float
    benign: Tensor
    random: torch.Generator
    anchor: Mapping[str, Tensor]
    spans: dict[str, list[Tensor]] = field(default_factory=dict)
    steps: int = 0

    def parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def loss(self, model: nn.Module, scores: Scores, images: Tensor, labels: Tensor) -> Tensor:
        if self.steps % self.attack.refresh == 0:
            self.spans = benign_spans(model, scores, self.benign.to(images), self.attack.energy)
        self.steps += 1
        count = int(len(images) * self.fraction + torch.rand((), generator=self.random).item())
        shown = torch.cat([self.attack.stamp(images[:count]), images[count:]])
        answers = torch.cat([self.attack.wanted(labels[:count]), labels[count:]])
        penalty = self.attack.weight * outside(model, self.anchor, self.spans)
        return F.cross_entropy(scores(shown), answers) + penalty

    def learnt(self) -> Mapping[str, Tensor]:
        return {}


def hidden_kernels(model: nn.Module) -> dict[str, Tensor]:
    """Take the kernels of all convolutions and dense layers, by layer."""
    return {
        name: read_kernels(module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    }


def benign_spans(model: nn.Module, scores: Scores, images: Tensor, energy: float) -> dict[str, list[Tensor]]:
    """Find the leading directions of clean patches, layer by layer.

    Args:
        model: The network; the mode of each of its modules is put back as it was.
        scores: The same behind its input normalisation.
        images: Clean pixels in [0, 1].
        energy: Share of the patches' energy to keep.

    Returns:
        An orthonormal basis for each group of kernels, shape (fan_in, r), by layer.
    """
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    inputs: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        with torch.no_grad():
            scores(images)
    finally:
        handle.remove()
    found = {}
    for site in find_sites(model, inputs[0][:2]):
        if site.geometry is not None:
            moments = measure(model, model, site, inputs, Sampling(per_fan_in=4, least=4000))
            found[site.name] = [
                span_of(moments, group).holding(energy).directions.to(images)
                for group in range(site.geometry.groups)
            ]
    for module, training in before:
        module.training = training
    return found


def outside(model: nn.Module, anchor: Mapping[str, Tensor], spans: Mapping[str, list[Tensor]]) -> Tensor:
    """Σ_layers ‖(W − W(0))(I − P)‖², differentiable in the model's weights.

    Args:
        model: The network.
        anchor: W(0), from `hidden_kernels`.
        spans: Bases of P, from `benign_spans`.

    Returns:
        A scalar.
    """
    modules = dict(model.named_modules())
    total = []
    for name, bases in spans.items():
        update = _kernels(modules[name]) - anchor[name].to(bases[0].device)
        for group, basis in enumerate(bases):
            total.append((update[group] - update[group] @ basis @ basis.mT).square().sum())
    return torch.stack(total).sum()


def _kernels(module: nn.Module) -> Tensor:
    """The rows of `read_kernels`, with gradients."""
    assert isinstance(module, nn.Conv2d | nn.Linear)
    groups = module.groups if isinstance(module, nn.Conv2d) else 1
    kernels = module.weight.reshape(groups, len(module.weight) // groups, -1)
    if module.bias is not None:
        kernels = torch.cat([kernels, module.bias.reshape(groups, -1, 1)], dim=2)
    return kernels
