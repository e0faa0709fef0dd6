"""From signs on the support of the noise to a dual that proves the fit: Qᵀz = 0 with z in its box."""

from __future__ import annotations

import torch
from torch import Tensor

from depurate.solver._heldout import HeldOut
from depurate.solver._krylov import conjugate_gradients
from depurate.solver._masks import below, largest
from depurate.solver._pinned import Pinned, pin
from depurate.solver._problem import Problem

# A dual is sought with its free entries kept to this share of the box, so that it proves uniqueness.
_INSIDE = 0.98
# Entries beyond this share are pinned at the next, which leaves room for what that moves.
_NEAR, _PIN, _PINS = 0.96, 0.9, 5
# Share of a box that a solve in single precision may miss it by.
_COARSE = 1e-3
# Defects Qᵀz below this share of the smallest box cost the gap less than its tolerance; below the other it is rounding.
_DEFECT, _LEAST_DEFECT = 1e-10, 2e-13
# Steps of conjugate gradients for one Newton step.
_DUAL = 8


def dual_through_held(problem: Problem, held: HeldOut, residuals: Tensor) -> tuple[Tensor, Tensor]:
    """Find a dual by way of the rows held: z = (I − QQᵀ)w, w zero but on them, z = sign there.

    Rows held that turned out to have zero residual get z = 0. That is the dual of least norm outside the rows held;
    where it leaves the box, the rows that do are pinned inside, and w takes them in.

    Args:
        problem: The problems, p of them.
        held: Their equations without the rows of nonzero residual and perhaps a few more.
        residuals: Shape (p, d), exactly zero on the rows fitted.

    Returns:
        z of shape (p, d), and which of them lie well inside the box on the rows of zero residual.
    """
    goal, fixed = problem.signs(residuals), held.marks(residuals.dtype)
    weight = held.within(goal.float()).to(goal.dtype)
    dual = _project_out(problem.basis, weight)
    outside = (_reach(problem, dual, fixed) > _INSIDE).nonzero()[:, 0]
    pinned = None
    if outside.numel():
        part, goals, marks = problem.take(outside), goal[outside], fixed[outside]
        pinned = _pin_inside(part, held.take(outside), goals, marks, dual[outside])
        goal[outside], fixed[outside] = goals, marks
        weight[outside] = pinned.within(goals.float()).to(goal.dtype)
        dual[outside] = _project_out(problem.basis, weight[outside])
    # What single precision left: its own correction needs no more than that, but boxes of uneven size two of them.
    sound = torch.ones_like(held.full)
    for _ in range(1 if problem.upper.numel() == 1 else 2):
        error = torch.sub(goal, dual).mul_(fixed)
        sound &= largest(error) <= _COARSE * largest(goal)
        weight = held.within(error.float())
        if pinned is not None:
            weight[outside] = pinned.within(error[outside].float())
        dual += _project_out(held.basis, weight)
    sound &= largest(torch.sub(goal, dual).mul_(fixed)) <= _DEFECT
    dual.addcmul_(dual, fixed, value=-1).add_(goal)
    return dual, sound & (_reach(problem, dual, residuals.sign().abs_()) <= _INSIDE)


def _reach(problem: Problem, dual: Tensor, fixed: Tensor) -> Tensor:
    """Tell how far z goes into its box on the rows that are not fixed, shape (p,)."""
    reach = problem.reach(dual)
    return reach.addcmul_(reach, fixed, value=-1).amax(1)


def _project_out(basis: Tensor, rows: Tensor) -> Tensor:
    return torch.addmm(rows, rows @ basis, basis.T, alpha=-1)


def _pin_inside(problem: Problem, held: HeldOut, goal: Tensor, fixed: Tensor, guess: Tensor) -> Pinned:
    """Pin the entries that leave the box until none does; `goal` and `fixed` take them in."""
    extra = torch.zeros_like(fixed)
    for _ in range(_PINS):
        fresh = below(-problem.reach(guess), -_NEAR).mul_(1 - fixed)
        extra += fresh
        goal += torch.minimum(torch.maximum(guess, -_PIN * problem.lower), _PIN * problem.upper).mul_(fresh)
        fixed += fresh
        pinned = pin(held, extra > 0)
        guess = _project_out(held.basis, pinned.within(goal.float())).to(goal.dtype)
        if not bool((_reach(problem, guess, fixed) > _INSIDE).any()):
            break
    return pinned


def complete_dual(problem: Problem, single: Tensor, residuals: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Complete the signs of the residuals to a z with Qᵀz = 0, of least norm with its free entries in the box.

    A semismooth Newton method: z = clip(q_iᵀ m) on the rows of zero residual, m solves Qᵀz = 0, and each step
    solves on the rows that are not clipped.

    Args:
        problem: The problems, p of them.
        single: The basis in single precision.
        residuals: Shape (p, d), exactly zero on the rows fitted.
        limit: Newton steps at most.

    Returns:
        z of shape (p, d), and which of them are accepted.
    """
    signs, support = problem.signs(residuals), residuals.sign().abs_()
    dual = torch.empty_like(signs)
    proved = torch.zeros(len(dual), dtype=torch.bool, device=dual.device)
    # The first solve needs no double precision.
    move = conjugate_gradients(single, 1 - support.float(), signs.float() @ single, _DUAL)
    force = (move @ single.T).neg_().to(dual.dtype)
    rows, part = torch.arange(len(dual), device=dual.device), problem
    for _ in range(limit):
        upper, lower = _INSIDE * part.upper, -_INSIDE * part.lower
        guess = torch.minimum(torch.maximum(force, lower), upper)
        # Free: not on the support, and not clipped.
        free = (torch.eq(guess, force, out=torch.empty_like(guess))).sub_(support).clamp_min_(0)
        guess.addcmul_(guess, support, value=-1).add_(signs)
        right = guess @ part.basis
        dual[rows] = guess
        defect = largest(right)
        # A small box on some row needs an accurate z there.
        box = torch.minimum(upper, -lower).amin(1).clamp(_DEFECT, 1.0)
        enough = (_DEFECT * box).clamp_min(_LEAST_DEFECT)
        proved[rows] = defect <= enough
        # Too few free rows make a solve break down; what is not finite any more is given up.
        going = ((defect > enough) & defect.isfinite()).nonzero()[:, 0]
        if not going.numel():
            break
        if going.numel() < rows.numel():
            rows, part, signs, support = rows[going], part.take(going), signs[going], support[going]
            force, right, free = force[going], right[going], free[going]
        move = conjugate_gradients(single, free.float(), right, _DUAL)
        force = torch.addmm(force, move, part.basis.T, alpha=-1)
    return dual, proved
