"""`lad`: least absolute deviations for many targets that share one design."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from depurate.errors import InputError
from depurate.solver._basis import Basis, orthonormal_basis
from depurate.solver._certificate import certify
from depurate.solver._interior import solve_interior
from depurate.solver._problem import Problem
from depurate.solver._solution import Solution, Status
from depurate.solver._trimming import solve_trimming
from depurate.solver._vertex import Candidate

_Method = Callable[[Problem, float, int], Candidate]
_METHODS: dict[str, _Method] = {"interior": solve_interior, "trimming": solve_trimming}
# Relative rounding error assumed in the targets, and the gap asked for, by precision.
_ROUNDING = {torch.float64: 1e-11, torch.float32: 2e-5}
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def lad(
    design: Tensor,
    targets: Tensor,
    *,
    method: str = "auto",
    tolerance: float | None = None,
    rounding: float | None = None,
    max_iterations: int = 100,
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """Solve min_U ‖Y − A U‖₁ for all columns of Y at once, and prove each solution.

    Every target is certified through its dual, max yᵀz subject to Aᵀz = 0, |z| ≤ 1: `gap` bounds the distance
    to the optimum and `unique` says that no other fit is as good. Rows with exactly zero residual are solved
    for exactly, so where sparse noise is undone it is undone to machine precision.

    Args:
        design: A, shape (d, r), float64 or float32, CPU or CUDA. Any rank; r ≥ d is allowed.
        targets: Y, shape (d, p) or (d,), dtype and device of the design.
        method: `auto` or one of `interior`.
        tolerance: Relative gap to reach; default 1e-9 in float64 and 1e-4 in float32.
        rounding: Relative size of rounding errors in the data, below which a residual counts as zero;
            default 1e-11 in float64 and 2e-5 in float32.
        max_iterations: Steps of the method at most.
        progress: Called with (targets done, targets).

    Returns:
        A `Solution`, on the device and in the dtype of the inputs.

    Raises:
        InputError: The shapes, dtypes, devices or values cannot be used.

    >>> import torch
    >>> design = torch.ones(5, 1, dtype=torch.float64)
    >>> solution = lad(design, torch.tensor([1.0, 2.0, 3.0, 10.0, 99.0], dtype=torch.float64))
    >>> f"{solution.coefficients.item():.12f} {solution.status[0]}"
    '3.000000000000 certified'
    """
    started = time.perf_counter()
    _check(design, targets, method)
    dtype, flat = design.dtype, targets.ndim == 1
    matrix = design.detach().to(torch.float64)
    rows = (targets.detach()[:, None] if flat else targets.detach()).to(torch.float64).T.contiguous()
    tolerance = _TOLERANCE[dtype] if tolerance is None else tolerance
    rounding = _ROUNDING[dtype] if rounding is None else rounding
    basis = orthonormal_basis(matrix)
    size, unit = _unit_scale(rows)
    one = rows.new_ones(1, 1)
    problem = Problem(basis.vectors, unit, one, one, rounding)
    found = _solve(problem, "interior" if method == "auto" else method, tolerance, max_iterations)
    if progress is not None:
        progress(rows.shape[0], rows.shape[0])
    return _solution(problem, basis, found, size, rows, tolerance, method, dtype, flat, started)


def _check(design: Tensor, targets: Tensor, method: str) -> None:
    if design.ndim != 2 or design.shape[0] == 0:
        raise InputError(
            f"design: shape {tuple(design.shape)}; expected (rows, columns) with at least one row"
        )
    if targets.ndim not in (1, 2) or targets.shape[0] != design.shape[0]:
        raise InputError(
            f"targets: shape {tuple(targets.shape)}; expected ({design.shape[0]},) or ({design.shape[0]}, p)"
        )
    if design.dtype not in _ROUNDING or targets.dtype != design.dtype:
        raise InputError(
            f"design is {design.dtype}, targets {targets.dtype}; expected both float64 or both float32"
        )
    if targets.device != design.device:
        raise InputError(f"design is on {design.device}, targets on {targets.device}; expected one device")
    for name, tensor in (("design", design), ("targets", targets)):
        bad = (~tensor.isfinite()).nonzero()
        if bad.shape[0]:
            place = tuple(bad[0].tolist())
            raise InputError(f"{name}: {tensor[place].item()} at index {place}; every entry must be finite")
    if method != "auto" and method not in _METHODS:
        raise InputError(f"method: {method!r}; expected auto or one of {', '.join(_METHODS)}")


def _unit_scale(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scale of every target (a power of two, so that scaling is exact) and the scaled targets."""
    peak = rows.abs().amax(1, keepdim=True)
    exponent = torch.frexp(torch.where(peak > 0, peak, 1.0)).exponent
    return torch.ldexp(torch.ones_like(peak), exponent), torch.ldexp(rows, -exponent)


def _solve(problem: Problem, method: str, tolerance: float, max_iterations: int) -> Candidate:
    """Targets inside the span need no method; the rest go to it."""
    coefficients = problem.targets @ problem.basis
    coefficients = coefficients + problem.residuals(coefficients) @ problem.basis
    residuals = problem.residuals(coefficients)
    found = Candidate.start(problem)
    inside = (residuals.abs() <= problem.zero_level(coefficients)).all(1)
    found.coefficients[inside] = coefficients[inside]
    found.residuals[inside] = 0.0
    found.dual[inside] = 0.0
    found.vertex[inside] = True
    rest = (~inside).nonzero()[:, 0]
    if problem.basis.shape[1] == 0:
        found.residuals[rest] = problem.targets[rest]
        found.dual[rest] = problem.take(rest).signs(problem.targets[rest])
        found.vertex[rest] = True
        return found
    if rest.numel():
        solved = _METHODS[method](problem.take(rest), tolerance / 10, max_iterations)
        for whole, part in (
            (found.coefficients, solved.coefficients),
            (found.residuals, solved.residuals),
            (found.dual, solved.dual),
            (found.vertex, solved.vertex),
            (found.iterations, solved.iterations),
        ):
            whole[rest] = part
    return found


def _solution(
    problem: Problem,
    basis: Basis,
    found: Candidate,
    size: Tensor,
    rows: Tensor,
    tolerance: float,
    method: str,
    dtype: torch.dtype,
    flat: bool,
    started: float,
) -> Solution:
    proof = certify(problem, found.coefficients, found.residuals, found.dual)
    optimal = proof.gap <= tolerance
    unique = optimal & found.vertex & (proof.margin < 1)
    residuals = (found.residuals * size).T.to(dtype)
    keep: int | slice = 0 if flat else slice(None)
    state = [
        Status.CERTIFIED if sure else Status.OPTIMAL if good else Status.INEXACT
        for sure, good in zip(unique.tolist(), optimal.tolist(), strict=True)
    ]
    fitted = torch.where(
        residuals == 0, rows.T.to(dtype), ((problem.targets - found.residuals) * size).T.to(dtype)
    )
    return Solution(
        coefficients=(((found.coefficients @ basis.back) * size).T.to(dtype))[..., keep],
        fitted=fitted[..., keep],
        residuals=residuals[..., keep],
        dual=(proof.dual.T.to(dtype))[..., keep],
        objective=((proof.objective * size[:, 0]).to(dtype))[..., keep],
        gap=(proof.gap.to(dtype))[..., keep],
        margin=(proof.margin.to(dtype))[..., keep],
        unique=unique[..., keep],
        zeros=proof.zeros[..., keep],
        certified=unique[..., keep],
        status=tuple(state),
        iterations=found.iterations[..., keep],
        rank=basis.rank,
        method=method,
        seconds=time.perf_counter() - started,
    )
