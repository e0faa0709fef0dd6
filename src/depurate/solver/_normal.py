"""The normal equations of the interior point method, (Bᵀ diag(w) B + R) x = b, for many weight vectors at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from depurate.solver._gram import gram_table, weighted_gram
from depurate.solver._problem import Problem

Solve = Callable[[Tensor], Tensor]
# Prepares the equations of some problems for weights (p, d) and a mark on those near their solution (p,), and
# returns the solver of right sides (p, k).
Normal = Callable[[Problem, Tensor, Tensor], Solve]

# From this rank on the factorisation costs far more than products with Q: factor in single precision and let
# conjugate gradients in double make up for it.
_LARGE = 64
_STEPS = 3


def normal_equations(problem: Problem) -> Normal:
    """Choose how the normal equations are solved for problems on this basis."""
    if problem.basis.shape[1] < _LARGE or problem.own is not None or problem.ridge is not None:
        table = gram_table(problem.basis)
        return lambda part, weights, near: _direct(part, weights, table)
    single = problem.basis.float()

    def prepare(part: Problem, weights: Tensor, near: Tensor) -> Solve:
        if bool(near.all()):
            return _direct(part, weights, None)
        if not bool(near.any()):
            return _mixed(part.basis, single, weights)
        exact, rough = near.nonzero()[:, 0], (~near).nonzero()[:, 0]
        solve_exact = _direct(part.take(exact), weights[exact], None)
        solve_rough = _mixed(part.basis, single, weights[rough])

        def solve(right: Tensor) -> Tensor:
            solution = torch.empty_like(right)
            solution[exact], solution[rough] = solve_exact(right[exact]), solve_rough(right[rough])
            return solution

        return solve

    return prepare


def scaled_factor(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cholesky factors of Jacobi-scaled Gram matrices, and the scales; lifted where they fail."""
    scale = gram.diagonal(dim1=1, dim2=2).rsqrt()
    gram = gram.mul_(scale[:, :, None]).mul_(scale[:, None, :])
    lift = 4 * torch.finfo(gram.dtype).eps
    gram.diagonal(dim1=1, dim2=2).add_(lift)
    factor, info = torch.linalg.cholesky_ex(gram)
    for _ in range(3):
        failed = info > 0
        if not bool(failed.any()):
            break
        lift *= 100
        gram.diagonal(dim1=1, dim2=2).add_(lift)
        again, code = torch.linalg.cholesky_ex(gram[failed])
        factor[failed], info[failed] = again, code
    return factor, scale


def _direct(problem: Problem, weights: Tensor, table: Tensor | None) -> Solve:
    factor, scale = scaled_factor(problem.gram(weights, table))

    def solve(right: Tensor) -> Tensor:
        return torch.cholesky_solve((right * scale)[:, :, None], factor)[:, :, 0] * scale

    return solve


def _mixed(basis: Tensor, single: Tensor, weights: Tensor) -> Solve:
    size = weights.amax(1, keepdim=True)
    factor, scale = scaled_factor(weighted_gram(single, (weights / size).float()))

    def precondition(right: Tensor) -> Tensor:
        peak = right.abs().amax(1, keepdim=True).clamp_min(torch.finfo(right.dtype).tiny)
        scaled = (right / peak).to(single.dtype) * scale
        rough = torch.cholesky_solve(scaled[:, :, None], factor)[:, :, 0] * scale
        return rough.to(right.dtype) * (peak / size)

    def solve(right: Tensor) -> Tensor:
        tiny = torch.finfo(right.dtype).tiny
        solution = torch.zeros_like(right)
        residual, direction, before = right, right, torch.ones_like(right[:, :1])
        for step in range(_STEPS):
            better = precondition(residual)
            energy = (residual * better).sum(1, keepdim=True)
            turn = energy / before.clamp_min(tiny)
            direction = better if step == 0 else torch.addcmul(better, turn, direction)
            image = ((direction @ basis.T).mul_(weights)) @ basis
            length = energy / (direction * image).sum(1, keepdim=True).clamp_min(tiny)
            solution = torch.addcmul(solution, length, direction)
            residual = torch.addcmul(residual, length, image, value=-1)
            before = energy
        return solution

    return solve
