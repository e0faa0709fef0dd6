"""Entries in doubt weighed together: which of them are hit, by their layers and by how sure the network is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.recovery.robust import Repair
from depurate.recovery.surety import Surety, descend, named_kernels
from depurate.spans import read_kernels

_STEPS = 30
# What is wrong in one layer is not independent of what is wrong in the next, so beliefs count less than their name.
_BELIEF = 0.1
# Beyond this, nothing that the network's answers say is let speak.
_DOUBT = 1e-3
_MOST = 5_000_000


def weigh(repairs: Mapping[str, Repair], sure: Surety, set_out: float = 1.0) -> dict[str, Repair]:
    """Decide which entries of a network are hit, in all layers together, without labels.

    Each layer alone says that its entry i is hit with probability p, and then has the value μ, known up to its scale
    s; or else it is as received, y. A trained network is sure of its answers on benign images, so

        min_{a, v} S(w) + π Σ (½ v² + KL(a ‖ p)),   w = y + a (μ + s v − y),

    S from `Surety`, by L-BFGS from v = 0; what has a > ½ then is taken for hit. Entries whose p is within 0.001 of 0
    or 1 stay what they are.

    Args:
        repairs: By the name of the layer.
        sure: Of the repaired network.
        set_out: The descent begins at a = min(p, set_out): at what layers say, or nearer to the network as received.

    Returns:
        Repairs with their hits anew, filled with μ; all other entries as received.

    Source: a mean-field approximation as in Jordan et al. 1999; what is approximated is our own.
    """
    layers = [_Doubtful.of(name, repair, sure, set_out) for name, repair in _limited(repairs).items()]

    def parameters() -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for layer in layers:
            named |= named_kernels(layer.name, sure.model.get_submodule(layer.name), layer.kernels())
        return named

    def cost() -> Tensor:
        belief = _BELIEF * torch.stack([layer.strain() for layer in layers]).sum()
        belief.backward()  # type: ignore[no-untyped-call]
        return belief.detach() + sure.pull(parameters)

    descend([variable for layer in layers for variable in (layer.move, layer.tilt)], cost, _STEPS)
    return {layer.name: layer.decided(repairs[layer.name]) for layer in layers}


@dataclass(frozen=True, eq=False)
class _Doubtful:
    """One layer: v in `move` for what may be hit, log odds of a over those of p in `tilt` for what is in doubt."""

    name: str
    received: Tensor
    likely: Tensor
    spread: Tensor
    belief: Tensor
    hits: Tensor
    doubt: Tensor
    open: Tensor
    move: Tensor
    tilt: Tensor

    @classmethod
    def of(cls, name: str, given: tuple[Repair, Tensor], sure: Surety, set_out: float) -> _Doubtful:
        repair, doubt = given
        like = read_kernels(sure.model.get_submodule(name))
        open_ = (repair.hits & (repair.spread > 0)) | doubt
        move = like.new_zeros(int(open_.sum())).requires_grad_()
        # What is no number is hit for sure: its own value is never looked at.
        received = torch.where(repair.received.isfinite(), repair.received, repair.likely).to(like)
        belief = repair.probability[doubt].to(like)
        tilt = (belief.clamp_max(set_out).logit() - belief.logit()).requires_grad_()
        return cls(
            name,
            received,
            repair.likely.to(like),
            repair.spread.to(like),
            belief,
            repair.hits,
            doubt,
            open_,
            move,
            tilt,
        )

    def gates(self) -> Tensor:
        """A of the entries in doubt."""
        return torch.sigmoid(self.belief.logit() + self.tilt)

    def kernels(self) -> Tensor:
        gates = self.hits.to(self.received).masked_scatter(self.doubt, self.gates())
        moves = torch.zeros_like(self.received).masked_scatter(self.open, self.move)
        return self.received + gates * (self.likely + self.spread * moves - self.received)

    def strain(self) -> Tensor:
        """Σ ½ v² + KL(a ‖ p)."""
        odds = self.belief.logit()
        # KL = a t − log((1 − p) + p eᵗ), t the tilt: no logarithm of a gate that has closed.
        shift = torch.nn.functional.softplus(odds + self.tilt) - torch.nn.functional.softplus(odds)
        return 0.5 * self.move.square().sum() + (self.gates() * self.tilt - shift).sum()

    def decided(self, repair: Repair) -> Repair:
        hits = repair.hits.masked_scatter(self.doubt, self.gates().detach() > 0.5)
        kernels = torch.where(hits, repair.likely, repair.received)
        # What layers believe, not the gates: these say what serves the answers, and have been seen to be too sure.
        found = float(repair.probability[hits].mean()) if bool(hits.any()) else 1.0
        return replace(repair, kernels=kernels, hits=hits, precision=found)


def _limited(repairs: Mapping[str, Repair]) -> dict[str, tuple[Repair, Tensor]]:
    """Repairs with their entries in doubt, the most doubtful ones where there are very many."""
    doubts = {name: _doubt(repair) for name, repair in repairs.items()}
    sizes = torch.cat([doubt.flatten() for doubt in doubts.values()])
    least = _DOUBT
    if int((sizes > least).sum()) > _MOST:
        least = float(sizes.topk(_MOST).values[-1])
    return {name: (repair, doubts[name] > least) for name, repair in repairs.items()}


def _doubt(repair: Repair) -> Tensor:
    """min(p, 1 − p), where it is open at all what a hit entry would be."""
    return torch.minimum(repair.probability, 1 - repair.probability) * (repair.spread > 0)
