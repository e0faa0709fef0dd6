"""Full gradient descent on the squared loss, kernels and output one after the other or both at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.errors import InputError
from depurate.paper.network import PatchNetwork

SCHEMES = ("sequential", "joint")


@dataclass(frozen=True, eq=False)
class Trained:
    """A network before and after training.

    Attributes:
        initial: W(0), β(0).
        final: Ŵ, β̂.
        losses: ½ Σ_x (ŷ(x) − y)² at the start and after every step.
        kernel_steps: Steps that moved the kernels; in the sequential scheme the first ones.
    """

    initial: PatchNetwork
    final: PatchNetwork
    losses: tuple[float, ...]
    kernel_steps: int


@dataclass(frozen=True, eq=False)
class _Parts:
    """Which weights a phase moves."""

    kernels: bool
    output: bool


def train(
    network: PatchNetwork,
    patches: Tensor,
    targets: Tensor,
    *,
    scheme: str = "sequential",
    steps: int = 2000,
    rate: float | None = None,
    tolerance: float = 1e-8,
) -> Trained:
    """Train by gradient descent on L(W, β) = ½ Σ_x (ŷ(x) − y)², starting from the network given.

    `sequential` moves W with β(0) held, until the loss has fallen to √tolerance of its start so that something is
    left to learn, then β with Ŵ held. Every step on W is a combination of patches and every step on β one of the
    features of Ŵ, so Ŵ_j − W_j(0) ∈ col(A_W) and β̂ − β(0) ∈ col(A_β) up to rounding. `joint` moves both at once:
    the features move while β is trained, and only the first statement holds.

    Args:
        network: W(0) and β(0).
        patches: Shape (n, m, k), dtype and device of the network.
        targets: y, shape (n,), same dtype and device.
        scheme: `sequential` or `joint`.
        steps: Steps at most, in each phase.
        rate: Step size; by default 1 / λ_max of the phase's tangent Gram matrix (∂ŷ/∂θ)(∂ŷ/∂θ)ᵀ where it starts.
        tolerance: Stop where the loss is at most this share of its start.

    Returns:
        The networks before and after, and the losses.

    Raises:
        InputError: Shapes, dtypes or options cannot be used, or the loss diverged.

    >>> import torch
    >>> patches = torch.randn(4, 3, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> trained = train(PatchNetwork.initialise(30, 20, seed=0), patches, torch.ones(4).double())
    >>> trained.losses[-1] <= 1e-8 * trained.losses[0]
    True
    """
    _check(network, patches, targets, scheme, steps, rate, tolerance)
    start = _loss(network.predict(patches) - targets)
    losses, current = [start], network
    both = scheme == "joint"
    share = tolerance if both else math.sqrt(tolerance)
    current = _descend(current, patches, targets, _Parts(True, both), steps, rate, share * start, losses)
    kernel_steps = len(losses) - 1
    if not both:
        phase = _Parts(False, True)
        current = _descend(current, patches, targets, phase, steps, rate, tolerance * start, losses)
    return Trained(network, current, tuple(losses), kernel_steps)


def gradients(network: PatchNetwork, patches: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient of ½ Σ_x (ŷ(x) − y)² in the kernels and in the output.

    ∂L/∂W_j = p^(−1/2) β_j Σ_x e_x Σ_i ψ′(W_jᵀ P_i x) P_i x,  ∂L/∂β = p^(−1/2) Σ_x e_x Σ_i ψ(W P_i x).

    Args:
        network: W and β.
        patches: Shape (n, m, k).
        errors: e = ŷ − y, shape (n,).

    Returns:
        Shapes (p, k) and (p,).

    >>> import torch
    >>> network = PatchNetwork(torch.tensor([[2.0]]), torch.tensor([3.0]))
    >>> [part.tolist() for part in gradients(network, torch.tensor([[[5.0]]]), torch.tensor([1.0]))]
    [[[15.0]], [10.0]]
    """
    root = network.output.shape[0] ** 0.5
    before = network.preactivations(patches)
    turned = slopes(network, before) * (errors[:, None, None] / root)
    kernels = (turned * network.output).flatten(0, 1).T @ patches.flatten(0, 1)
    return kernels, errors @ network.activation(before).sum(1) / root


def tangent_gram(network: PatchNetwork, patches: Tensor, *, kernels: bool, output: bool) -> Tensor:
    """(∂ŷ/∂θ)(∂ŷ/∂θ)ᵀ over the inputs, for θ the kernels, the output or both.

    The kernels give p⁻¹ Σ_{i,i'} (P_i x · P_{i'} x') Σ_j β_j² ψ′(W_jᵀ P_i x) ψ′(W_jᵀ P_{i'} x'), the output
    p⁻¹ φ(x)·φ(x') with φ the features.

    Args:
        network: W and β.
        patches: Shape (n, m, k).
        kernels: Whether the kernels move.
        output: Whether the output moves.

    Returns:
        Shape (n, n). Gradient descent with a step below 2 / λ_max of it is stable as long as it hardly changes.

    >>> import torch
    >>> network = PatchNetwork(torch.tensor([[2.0]]), torch.tensor([3.0]))
    >>> tangent_gram(network, torch.tensor([[[5.0]]]), kernels=True, output=True).tolist()
    [[325.0]]
    """
    count, positions, _ = patches.shape
    units = network.output.shape[0]
    before = network.preactivations(patches)
    gram = before.new_zeros(count, count)
    if kernels:
        rows, turned = patches.flatten(0, 1), (slopes(network, before) * network.output).flatten(0, 1)
        pairs = (rows @ rows.T) * (turned @ turned.T) / units
        gram = gram + pairs.reshape(count, positions, count, positions).sum((1, 3))
    if output:
        features = network.activation(before).sum(1)
        gram = gram + features @ features.T / units
    return gram


def slopes(network: PatchNetwork, before: Tensor) -> Tensor:
    """ψ′ at the given points, by differentiating ψ alone: it acts entry by entry.

    >>> import torch
    >>> slopes(PatchNetwork(torch.eye(2), torch.ones(2)), torch.tensor([-1.0, 3.0])).tolist()
    [0.0, 1.0]
    """
    with torch.enable_grad():
        points = before.detach().requires_grad_()
        (found,) = torch.autograd.grad(network.activation(points).sum(), points)
    return found


def _descend(
    network: PatchNetwork,
    patches: Tensor,
    targets: Tensor,
    moves: _Parts,
    steps: int,
    rate: float | None,
    goal: float,
    losses: list[float],
) -> PatchNetwork:
    """Step until the loss is at most `goal`; every loss is appended to `losses`."""
    if losses[-1] <= goal:
        return network
    if rate is None:
        gram = tangent_gram(network, patches, kernels=moves.kernels, output=moves.output)
        peak = float(torch.linalg.eigvalsh(gram)[-1])
        if peak <= 0:
            return network
        rate = 1 / peak
    errors = network.predict(patches) - targets
    for _ in range(steps):
        kernels, output = gradients(network, patches, errors)
        network = replace(
            network,
            kernels=network.kernels - rate * kernels if moves.kernels else network.kernels,
            output=network.output - rate * output if moves.output else network.output,
        )
        errors = network.predict(patches) - targets
        losses.append(_loss(errors))
        if not math.isfinite(losses[-1]):
            raise InputError(f"rate: {rate:.3g} is too large, the loss diverged at step {len(losses) - 1}")
        if losses[-1] <= goal:
            break
    return network


def _loss(errors: Tensor) -> float:
    return float(errors.square().sum()) / 2


def _check(
    network: PatchNetwork,
    patches: Tensor,
    targets: Tensor,
    scheme: str,
    steps: int,
    rate: float | None,
    tolerance: float,
) -> None:
    if targets.shape != patches.shape[:1] or targets.dtype != network.output.dtype:
        found = f"{tuple(targets.shape)}, {targets.dtype}"
        raise InputError(f"targets: {found}; expected ({patches.shape[0]},), {network.output.dtype}")
    if scheme not in SCHEMES:
        raise InputError(f"scheme: {scheme!r}; expected one of {', '.join(SCHEMES)}")
    if steps < 0 or not 0 <= tolerance < 1:
        raise InputError(f"steps: {steps}, tolerance: {tolerance}; expected steps ≥ 0 and 0 ≤ tolerance < 1")
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise InputError(f"rate: {rate}; expected a positive number")
