"""Replaced entries settled together: of all values that fit their layers, those with which the network is sure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from depurate.recovery.robust import Repair
from depurate.spans import read_kernels, write_kernels

_Score = Callable[[dict[str, Tensor], Tensor], Tensor]

_STEPS = 12
_TRIES = 15
# What is wrong in one layer is not independent of what is wrong in the next, so the prior counts less than its name.
_PRIOR = 0.1


def settle(
    model: nn.Module, repairs: Mapping[str, Repair], batches: list[Tensor], read: Callable[[object], Tensor]
) -> tuple[str, ...]:
    """Choose the values of all hit entries of a network together, in place, without labels.

    Layer by layer each hit entry was given its most likely value μ, which is known up to its scale s. A trained
    network is sure of its answers on benign images, and one with many small errors is not; so

        min_v Σ_i H(f(x_i)) − N H(mean f) + (π/2) ‖v‖²,   hit entries w = μ + s v,

    by L-BFGS from v = 0. H(mean f) counts no more than at the start: it only keeps answers from becoming all alike.
    Entries that were not hit do not change.

    Args:
        model: Repaired, evaluation mode; its hit entries are changed.
        repairs: By the name of the layer.
        batches: Benign images.
        read: Takes the scores, shape (n, classes), from what the network returns.

    Returns:
        The layers that changed; none where the network would not become surer.

    >>> net = nn.Sequential(nn.Linear(2, 2, bias=False)).requires_grad_(False)
    >>> _ = net[0].weight.copy_(torch.eye(2))
    >>> hits = torch.tensor([[[True, False], [False, False]]])
    >>> repair = Repair(torch.eye(2)[None], hits, hits.double(), 0.1, 1.0, 1.0, 0, 0.5 * hits)
    >>> settle(net, {"0": repair}, [torch.eye(2)], lambda scores: scores)
    ('0',)
    >>> (net[0].weight > 1).tolist()
    [[True, False], [False, False]]

    Source: entropy minimisation as in Grandvalet & Bengio 2004 and Wang et al. 2021 (Tent); the prior is our own.
    """
    layers = [
        _Layer.of(name, model.get_submodule(name), repair)
        for name, repair in repairs.items()
        if bool(repair.spread.any())
    ]
    if not layers:
        return ()
    moves = [torch.zeros_like(layer.spread, requires_grad=True) for layer in layers]

    def score(parameters: dict[str, Tensor], batch: Tensor) -> Tensor:
        return read(functional_call(model, parameters, (batch,)))

    start = _Answers.of(score, {}, batches)
    search = torch.optim.LBFGS(moves, lr=1, max_iter=_STEPS, max_eval=_TRIES, line_search_fn="strong_wolfe")

    def cost() -> Tensor:
        search.zero_grad()
        prior = 0.5 * _PRIOR * torch.stack([move.square().sum() for move in moves]).sum()
        prior.backward()  # type: ignore[no-untyped-call]
        return prior.detach() + _pull(score, layers, moves, batches, start)

    search.step(cost)  # type: ignore[no-untyped-call]
    found = _parameters(layers, [move.detach() for move in moves])
    if not _Answers.of(score, found, batches).entropy < start.entropy:  # also where it is NaN
        return ()
    for layer, move in zip(layers, moves, strict=True):
        write_kernels(layer.module, layer.kernels(move.detach()))
    return tuple(layer.name for layer in layers)


@dataclass(frozen=True, eq=False)
class _Layer:
    name: str
    module: nn.Module
    base: Tensor
    free: Tensor
    spread: Tensor

    @classmethod
    def of(cls, name: str, module: nn.Module, repair: Repair) -> _Layer:
        base, free = read_kernels(module), repair.spread > 0
        return cls(name, module, base, free, repair.spread[free].to(base))

    def kernels(self, move: Tensor) -> Tensor:
        return self.base.masked_scatter(self.free, self.base[self.free] + self.spread * move)

    def parameters(self, move: Tensor) -> dict[str, Tensor]:
        """Weight and bias by their names in the network, differentiable."""
        kernels, named = self.kernels(move), {}
        if self.module.bias is not None:
            named[f"{self.name}.bias"] = kernels[..., -1].reshape(-1)
            kernels = kernels[..., :-1]
        shape = self.module.get_parameter("weight").shape
        return named | {f"{self.name}.weight": kernels.reshape(shape)}


@dataclass(frozen=True, eq=False)
class _Answers:
    """Mean entropy of a network's answers, and their mean."""

    entropy: float
    mean: Tensor

    @classmethod
    def of(cls, score: _Score, parameters: dict[str, Tensor], batches: list[Tensor]) -> _Answers:
        with torch.no_grad():
            scores = torch.cat([score(parameters, batch) for batch in batches])
        logs = scores.log_softmax(1)
        return cls(float(-(logs.exp() * logs).sum(1).mean()), logs.exp().mean(0))

    @property
    def variety(self) -> float:
        return float(-(self.mean * self.mean.clamp_min(1e-12).log()).sum())


def _parameters(layers: list[_Layer], moves: list[Tensor]) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for layer, move in zip(layers, moves, strict=True):
        named |= layer.parameters(move)
    return named


def _pull(
    score: _Score, layers: list[_Layer], moves: list[Tensor], batches: list[Tensor], start: _Answers
) -> Tensor:
    """Σ H(f(x_i)) − N min(H(mean f), its start); gradients are added to the moves, a batch at a time."""
    now = _Answers.of(score, _parameters(layers, [move.detach() for move in moves]), batches)
    count = sum(len(batch) for batch in batches)
    # d(−N H(mean f)) / df(x_i) = log(mean f) + 1, of which the 1 moves nothing: answers sum to one.
    price = now.mean.clamp_min(1e-12).log() * (now.variety < start.variety)
    for batch in batches:
        logs = score(_parameters(layers, moves), batch).log_softmax(1)
        (logs.exp() * (price - logs)).sum().backward()  # type: ignore[no-untyped-call]
    return torch.tensor(count * (now.entropy - min(now.variety, start.variety)))
