"""`lad`: least absolute deviations for many targets that share one design."""

from __future__ import annotations

import time
from collections.abc import Callable
from numbers import Integral

import torch
from torch import Tensor

from depurate.errors import InputError
from depurate.solver._assemble import assemble
from depurate.solver._clipped import solve_clipped
from depurate.solver._numbers import real_number
from depurate.solver._rescaled import solve_rescaled
from depurate.solver._setup import ROUNDING, TOLERANCE, Options, check, check_tensor, set_up
from depurate.solver._solution import Solution, Status
from depurate.solver._solve import METHODS, reweigh, solve, weighted
from depurate.solver._start import check_start, read_start
from depurate.solver._weightless import Job, solve_weighted_rows


def lad(
    design: Tensor,
    targets: Tensor,
    *,
    method: str = "auto",
    quantile: float = 0.5,
    weights: Tensor | None = None,
    huber: float = 0.0,
    ridge: float = 0.0,
    extra: Tensor | None = None,
    reweight: int = 0,
    tolerance: float | None = None,
    rounding: float | Tensor | None = None,
    max_iterations: int = 100,
    start: Solution | Tensor | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """Solve min_U ‖Y − A U‖₁ for all columns of Y at once, and prove each solution.

    Every target is certified through its dual, max yᵀz subject to Aᵀz = 0, |z| ≤ 1: `gap` bounds the distance
    to the optimum and `unique` says that no other fit is as good. Rows with exactly zero residual are solved
    for exactly, so where sparse noise is undone it is undone to machine precision.

    With all options the objective of a target is Σ_i w_i ρ(e_i) + ½ ridge ‖u‖², e = y − A u − E v, where
    ρ(e) = 2 max(quantile · e, (quantile − 1) · e), rounded off at zero by `huber`.

    Args:
        design: A, shape (d, r), float64 or float32, CPU or CUDA. Any rank; r ≥ d is allowed.
        targets: Y, shape (d, p) or (d,), dtype and device of the design.
        method: `auto`; or `trimming` (only sparse noise, other targets are left unsolved), `descent` (linear programs
            without `extra`; targets past its pivots are left unsolved), `complement` (the same, for nearly as many
            columns as rows) or `interior`.
        quantile: The conditional quantile that is fitted, between 0 and 1; the objective is twice the pinball
            loss, so that 1/2 is ‖·‖₁.
        weights: w, shape (d,) or (d, p), nonnegative. A target is solved without its rows of weight zero; other weights
            below 1e-12 of its largest count as that.
        huber: δ ≥ 0 in units of the targets: the loss of |e| ≤ δ is e²/(2δ), beyond it |e| − δ/2.
            With a quantile q it turns at 2qδ above zero and 2(1 − q)δ below.
        ridge: Strength of the squared penalty on the coefficients.
        extra: E, shape (d, q, p): every target's own further columns. Not together with `ridge`.
        reweight: Times to solve again with weights 1/(1 + |e|/δ), δ the median nonzero residual, for
            targets with no more zeros than coefficients. It finds sparse noise past the reach of the plain norm; the
            certificate then speaks of the weighted problem.
        tolerance: Relative gap to reach, between 0 and 1; default 1e-9 in float64 and 1e-4 in float32.
        rounding: Relative size of rounding errors in the data, below which a residual counts as zero;
            default 1e-11 in float64 and 2e-5 in float32. A number, or one a target, shape (p,). A target that varies
            by less than that share of its size (seconds since 1970) fits exactly: subtract a typical value first.
        max_iterations: Steps of a method at most.
        start: Where to look first: the solution of a similar problem of the same shape, or coefficients, shape (r, p)
            or (r,). It only saves time, for generic targets and with a solution above all: what is found is proved
            as ever. Not together with `huber`, `ridge` or `extra`.
        progress: Called with (targets, targets) when all are done.

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
    options = Options(
        real_number(quantile, "quantile"),
        weights,
        real_number(huber, "huber"),
        real_number(ridge, "ridge"),
        extra,
    )
    check(design, targets, options)
    _check_method(method, options, reweight, start is not None)
    if progress is not None and not callable(progress):
        raise InputError(f"progress: {type(progress).__name__}; expected a function of two numbers")
    tolerance = TOLERANCE[design.dtype] if tolerance is None else real_number(tolerance, "tolerance")
    _check_numbers(tolerance, max_iterations, reweight)
    flat = targets.ndim == 1
    job = Job(
        design,
        targets[:, None] if flat else targets,
        options,
        _levels(rounding, design, targets),
        None if start is None else check_start(start, design, targets),
    )

    def run(job: Job, reweight: int = reweight) -> Solution:
        setup = set_up(job.design, job.targets, job.options, job.rounding)
        problem, last = setup.problem, None
        begin = None if job.start is None else read_start(job.start, job.design, setup)
        found = solve(problem, method, tolerance / 10, max_iterations, begin)
        if reweight:
            last, found = reweigh(problem, found, reweight, method, tolerance / 10, max_iterations)
            problem = weighted(problem, last)
        return assemble(setup, problem, found, last, tolerance, method)

    def run_weighted(job: Job) -> Solution:
        # Methods that leave targets unsolved by design are not asked again.
        whole = method in ("auto", "interior")
        return solve_rescaled(job, run(job), lambda part: run(part, 0)) if whole else run(job)

    solution = solve_weighted_rows(job, lambda part: solve_clipped(part, run_weighted))
    if progress is not None:
        progress(len(solution.status), len(solution.status))
    solution = solution.cast(design.dtype, flat, time.perf_counter() - started)
    _check_range(solution)
    return solution


def _levels(rounding: float | Tensor | None, design: Tensor, targets: Tensor) -> Tensor:
    """Bring `rounding` to shape (1, 1) or (p, 1)."""
    if rounding is None:
        rounding = ROUNDING[design.dtype]
    if isinstance(rounding, Tensor):
        check_tensor(rounding, "rounding")
    count = 1 if targets.ndim == 1 else targets.shape[1]
    try:
        # Asked for float64, torch would drop imaginary parts with no more than a warning.
        if torch.as_tensor(rounding).is_complex():
            raise TypeError
        levels = torch.as_tensor(rounding, dtype=torch.float64, device=design.device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"rounding: {rounding!r}; expected real numbers, one or shape ({count},)") from None
    if levels.shape not in ((), (count,)):
        raise InputError(f"rounding: shape {tuple(levels.shape)}; expected a number or shape ({count},)")
    if not bool(((levels >= 0) & levels.isfinite()).all()):
        raise InputError(f"rounding: {rounding}; expected finite numbers, zero or above")
    return levels.reshape(-1, 1)


def _check_method(method: str, options: Options, reweight: int, started: bool) -> None:
    if not isinstance(method, str) or (method != "auto" and method not in METHODS):
        raise InputError(f"method: {method!r}; expected auto or one of {', '.join(METHODS)}")
    plain = not (options.huber or options.ridge)
    if method in ("trimming", "descent", "complement") and (not plain or options.extra is not None):
        raise InputError(f"method: {method!r} takes no huber, ridge or extra; use auto")
    if started and (not plain or options.extra is not None):
        raise InputError("start: not together with huber, ridge or extra")
    if reweight and not plain:
        raise InputError(f"reweight: {reweight}; not together with huber or ridge")


def _check_numbers(tolerance: float, max_iterations: int, reweight: int) -> None:
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance: {tolerance}; expected between 0 and 1")
    for name, value, least in (("max_iterations", max_iterations, 1), ("reweight", reweight, 0)):
        if not isinstance(value, Integral) or value < least:
            raise InputError(f"{name}: {value}; expected a whole number, {least} or above")


def _check_range(solution: Solution) -> None:
    """Raise InputError where a solution was found that its dtype cannot hold: it must not be called optimal."""
    whole = solution.coefficients.isfinite().all(0) & solution.objective.isfinite()
    for place, good in enumerate(whole.reshape(-1).tolist()):
        if not good and solution.status[place] is not Status.INEXACT:
            raise InputError(
                f"targets: coefficients or loss of number {place} pass what {solution.objective.dtype} holds; "
                "scale design or targets"
            )
