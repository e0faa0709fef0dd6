"""Hit entries settled together: of all that fits their layers, that with which the network is sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from depurate.recovery.robust import Repair
from depurate.recovery.surety import Surety, descend, named_kernels
from depurate.recovery.weighing import weigh
from depurate.spans import write_kernels

_STEPS = 12
# What is wrong in one layer is not independent of what is wrong in the next, so the prior counts less than its name.
_PRIOR = 0.1
_AS_WELL, _NEAR = 0.9, 0.2


def settle(
    model: nn.Module,
    repairs: Mapping[str, Repair],
    batches: list[Tensor],
    read: Callable[[object], Tensor],
    received: nn.Module | None = None,
) -> dict[str, Repair]:
    """Choose which entries of a network are hit, and their values, all layers together, in place, without labels.

    Layer by layer each hit entry was given its most likely value μ, which is known up to its scale s. A trained
    network is sure of its answers on benign images, and one with many small errors is not; so `weigh` decides again
    which entries are hit, and then

        min_v S(w) + (π/2) ‖v‖²,   hit entries w = μ + s v,

    S from `Surety`, by L-BFGS from v = 0. Entries that are not taken for hit are as received, bit for bit.

    Args:
        model: Repaired, evaluation mode; changed where that helps.
        repairs: By the name of the layer.
        batches: Benign images.
        read: Takes the scores, shape (n, classes), from what the network returns.
        received: The network before it was repaired: answers are to be no less varied than its own, and where it tells
            the images apart about as well, `weigh` sets out near it.

    Returns:
        The repairs that changed, as they are now; none where the network would tell the images apart no better.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False)).requires_grad_(False)
    >>> _ = net[0].weight.copy_(torch.eye(2))
    >>> eye, hits = torch.eye(2)[None], torch.tensor([[[True, False], [False, False]]])
    >>> repair = Repair(eye, hits, hits.double(), 0.1, 1.0, 1.0, 0, torch.full_like(eye, 0.5), eye, eye)
    >>> list(settle(net, {"0": repair}, [torch.eye(2)], lambda scores: scores))
    ['0']
    >>> (net[0].weight > 1).tolist()
    [[True, False], [False, False]]

    Source: the prior is our own; for S see `Surety`.
    """
    opened = {
        name: repair for name, repair in repairs.items() if bool((repair.spread[repair.hits] > 0).any())
    }
    if not opened:
        return {}
    sure = Surety.of(model, batches, read, received)
    layers = _descended(weigh(opened, sure, _set_out(sure)), sure)
    if not sure.cost(_parameters(layers)) < sure.cost({}):  # also where it is NaN
        return {}
    for layer in layers:
        write_kernels(model.get_submodule(layer.name), layer.kernels().detach())
    return {layer.name: layer.settled() for layer in layers}


def _set_out(sure: Surety) -> float:
    """From what the layers say, unless the network as received tells the images apart about as well as repaired.

    A network that a repair broke knows nothing any more that it could be sure of.
    """
    near = sure.other is not None and sure.other.information > _AS_WELL * sure.start.information
    return _NEAR if near else 1.0


def _descended(repairs: Mapping[str, Repair], sure: Surety) -> list[_Layer]:
    layers = [_Layer.of(name, sure.model.get_submodule(name), repair) for name, repair in repairs.items()]

    def cost() -> Tensor:
        prior = 0.5 * _PRIOR * torch.stack([layer.move.square().sum() for layer in layers]).sum()
        prior.backward()  # type: ignore[no-untyped-call]
        return prior.detach() + sure.pull(lambda: _parameters(layers))

    descend([layer.move for layer in layers], cost, _STEPS)
    return layers


def _parameters(layers: list[_Layer]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for layer in layers:
        named |= named_kernels(layer.name, layer.module, layer.kernels())
    return named


@dataclass(frozen=True, eq=False)
class _Layer:
    name: str
    module: nn.Module
    repair: Repair
    open: Tensor
    move: Tensor

    @classmethod
    def of(cls, name: str, module: nn.Module, repair: Repair) -> _Layer:
        open_ = repair.hits & (repair.spread > 0)
        move = module.get_parameter("weight").new_zeros(int(open_.sum())).requires_grad_()
        return cls(name, module, repair, open_, move)

    def kernels(self) -> Tensor:
        base, spread = (
            values.to(self.move) for values in (self.repair.kernels, self.repair.spread[self.open])
        )
        return base.masked_scatter(self.open, base[self.open] + spread * self.move)

    def settled(self) -> Repair:
        return replace(self.repair, kernels=self.kernels().detach())
