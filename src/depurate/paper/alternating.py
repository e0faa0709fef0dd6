"""Kernels and output recovered in turn: what is certified of one predicts what failed of the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from depurate.paper.network import PatchNetwork
from depurate.paper.recovery import check_pair
from depurate.paper.training import slopes
from depurate.paper.undo import Undone, undo
from depurate.solver import lad

# Numbers in the stacked system for the shared coefficients, and kernels in it at most: those with the largest |β_j|,
# whose updates stand out most.
_NUMBERS, _KERNELS = 4_000_000, 64
# A weight has fallen to a half at this many lower quartiles of the distance from the prediction, and ends at the floor:
# below it the weighted problem is too uneven to be proved optimal.
_HALF, _FLOOR = 3.0, 1e-2
# Features of both ends of the path replace those of its end where they explain the output this much better.
_BETTER = 0.25


@dataclass(frozen=True)
class Round:
    """Certificates after one round: kernels, and whether the output is certified given them."""

    kernels: int
    output: bool


@dataclass(frozen=True, eq=False)
class AlternatingRecovery:
    """The recovered network, and what is proved of it.

    Attributes:
        network: W̃ and β̃. Kernels whose fit meets no more entries than it has coefficients are the prediction
            from the others.
        kernels_certified: Shape (p,), bool: every row fitted exactly is confirmed by the others, and the fit is the
            unique optimum of its weighted l1 problem.
        output_certified: The same of the output, all kernels certified too.
        output_span: `features` of W̃, or `path`: of W(0) and W̃ together, where both layers had moved at once.
        rounds: After the plain l1 recovery, and after every round since.
        seconds: Wall time.
    """

    network: PatchNetwork
    kernels_certified: Tensor
    output_certified: bool
    output_span: str
    rounds: tuple[Round, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class _Output:
    weights: Tensor
    certified: bool
    span: str


def recover_alternating(
    contaminated: PatchNetwork, initial: PatchNetwork, patches: Tensor, *, rounds: int = 4
) -> AlternatingRecovery:
    """Recover kernels past the reach of l1, and an output that was trained at the same time as they were.

    Gradient descent couples all kernels: while the pattern of slopes stays, W_j − W_j(0) = β_j Σ_x c_x Σ_i
    ψ′(W_jᵀP_i x) P_i x with the same c ∈ Rⁿ for every j. So n numbers, fitted by l1 over many kernels at once, predict
    every update; entries far from the prediction count little in a second, weighted l1 fit in the full span. Where
    that fit is certified the kernel is recovered exactly: the prediction only finds the hit entries. Then β is fitted
    on the features of certified kernels alone; where β − β(0) is not in their span, the features moved while β was
    trained, and the features of W(0) join the span: for slopes that do not change, features move along a line.

    Args:
        contaminated: Θ and η.
        initial: W(0) and β(0), same shapes and dtype.
        patches: The clean training inputs, shape (n, m, k). Unlike `recover` this needs all of them.
        rounds: At most, after the plain recovery.

    Returns:
        The recovered network and what is certified.

    Raises:
        InputError: The networks differ in shape or dtype, or a weight is not finite.

    >>> import torch
    >>> from depurate.contamination import Gaussian
    >>> from depurate.paper import contaminate_network, train
    >>> patches = torch.randn(6, 5, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> trained = train(PatchNetwork.initialise(90, 60, seed=0), patches, torch.ones(6).double(), scheme="joint")
    >>> hit = contaminate_network(trained.final, 0.3, Gaussian(), seed=1)
    >>> found = recover_alternating(hit, trained.initial, patches)
    >>> found.rounds[0].kernels < 45, found.rounds[-1].kernels > 75, found.output_span
    (True, True, 'path')
    """
    started = time.perf_counter()
    check_pair(contaminated, initial)
    initial.check_patches(patches)
    design = patches.flatten(0, 1).T
    suspect, anchor = contaminated.kernels.T, initial.kernels.T
    first = undo(design, suspect, anchor)
    kernels, certified = first.weights, first.certified
    output = _output(contaminated, initial, patches, kernels, certified)
    history = [Round(int(certified.sum()), output.certified)]
    path = initial.kernels  # slopes are taken at W(0) until something better is known
    for _ in range(rounds):
        rest = (~certified).nonzero()[:, 0]
        if not rest.numel():
            break
        driver = replace(initial, kernels=path, output=(initial.output + output.weights) / 2)
        predicted = _predict(driver, patches, suspect - anchor)
        again = _weighted(design, suspect[:, rest], anchor[:, rest], predicted[:, rest])
        kernels = kernels.clone()
        fits = again.certified | (again.solution.zeros > again.solution.rank)
        kernels[:, rest] = torch.where(fits, again.weights, (anchor + predicted)[:, rest])
        certified = certified.index_put((rest,), again.certified)
        output = _output(contaminated, initial, patches, kernels, certified)
        history.append(Round(int(certified.sum()), output.certified))
        path = (initial.kernels + kernels.T) / 2
        if len(history) > 2 and history[-1] == history[-2]:
            break
    return AlternatingRecovery(
        network=replace(initial, kernels=kernels.T.contiguous(), output=output.weights),
        kernels_certified=certified,
        output_certified=output.certified and bool(certified.all()),
        output_span=output.span,
        rounds=tuple(history),
        seconds=time.perf_counter() - started,
    )


def _predict(driver: PatchNetwork, patches: Tensor, update: Tensor) -> Tensor:
    """Every kernel's update from n shared coefficients, shape (k, p): β_j Σ_x c_x Σ_i ψ′(W_jᵀ P_i x) P_i x."""
    turned = slopes(driver, driver.preactivations(patches)) * driver.output
    count, _, fan_in = patches.shape
    most = max(1, min(_KERNELS, _NUMBERS // (fan_in * count)))
    chosen = driver.output.abs().argsort(descending=True)[:most]
    system = torch.einsum("nmk,nmp->pkn", patches, turned[..., chosen]).flatten(0, 1)
    shared = lad(system, update.T[chosen].flatten()).coefficients
    predicted: Tensor = torch.einsum("nmk,nmp->kp", patches * shared[:, None, None], turned)
    return predicted


def _weighted(design: Tensor, suspect: Tensor, anchor: Tensor, predicted: Tensor) -> Undone:
    """l1 with weights that fall with an entry's distance from the prediction."""
    distance = (suspect - anchor - predicted).abs()
    usual = distance.quantile(0.25, dim=0).clamp_min(torch.finfo(distance.dtype).tiny)
    weights = (1 / (1 + (distance / (_HALF * usual)) ** 2)).clamp_min(_FLOOR)
    return undo(design, suspect, anchor, weights=weights)


def _output(
    contaminated: PatchNetwork, initial: PatchNetwork, patches: Tensor, kernels: Tensor, certified: Tensor
) -> _Output:
    """β from the features of certified kernels; from all where those are too few to tell."""
    last = replace(initial, kernels=kernels.T).features(patches).T
    trusted = certified if int(certified.sum()) > 2 * last.shape[1] else torch.ones_like(certified)
    plain = _fit(last, contaminated.output, initial.output, trusted)
    whole = torch.cat([initial.features(patches).T, last], dim=1)
    if bool(plain.certified) or 2 * whole.shape[1] > int(trusted.sum()):
        return _Output(plain.weights[:, 0], bool(plain.certified), "features")
    both = _fit(whole, contaminated.output, initial.output, trusted)
    moved = _usual(both) < _BETTER * _usual(plain)
    best, span = (both, "path") if moved else (plain, "features")
    return _Output(best.weights[:, 0], bool(best.certified), span)


def _fit(design: Tensor, suspect: Tensor, anchor: Tensor, trusted: Tensor) -> Undone:
    """Fit the trusted rows, and give the others what the fit says of them."""
    part = undo(design[trusted], suspect[trusted, None], anchor[trusted, None])
    weights = anchor[:, None] + design @ part.solution.coefficients
    weights[trusted] = part.weights
    return replace(part, weights=weights)


def _usual(found: Undone) -> float:
    """Lower quartile of the residuals that are not zero."""
    sizes = found.solution.residuals.abs()
    sizes = sizes[sizes > 0]
    return float(sizes.quantile(0.25)) if sizes.numel() else 0.0
