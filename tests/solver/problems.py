"""Problems with known answers, and the reference solver: SciPy's HiGHS on one column at a time."""

import numpy as np
import torch
from scipy.optimize import linprog


def sparse_noise(rows, columns, targets, share, law="gaussian", seed=0):
    """Gaussian design, clean targets inside its span, and the same with `share` of the entries hit."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    design, clean = normal(rows, columns), None
    clean = design @ normal(columns, targets)
    hit = torch.rand(rows, targets, generator=random) < share
    noise = normal(rows, targets)
    if law == "cauchy":
        noise = noise / normal(rows, targets)
    if law == "same-sign":
        noise = noise.abs() + 1
    return design, clean, clean + hit * noise


def highs_loss(design, target, lower=1.0, upper=1.0):
    """Optimal Σ upper max(e, 0) + lower max(−e, 0) by HiGHS; columns and target scaled to one first."""
    design, target = np.asarray(design), np.asarray(target)
    rows, columns = design.shape
    peak = np.abs(design).max(0, initial=0)
    design = design / np.where(peak > 0, peak, 1)
    size = max(np.abs(target).max(initial=0), 1e-300)
    up, low = np.broadcast_to(upper, rows), np.broadcast_to(lower, rows)
    result = linprog(
        np.concatenate([np.zeros(columns), up, low]),
        A_eq=np.hstack([design, np.eye(rows), -np.eye(rows)]),
        b_eq=target / size,
        bounds=[(None, None)] * columns + [(0, None)] * (2 * rows),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    assert result.status == 0, result.message
    # HiGHS meets its equations to a tolerance only, so the loss is recomputed from the coefficients it found.
    residual = target / size - design @ result.x[:columns]
    return (up * residual.clip(0) + low * (-residual).clip(0)).sum() * size


def problem(kind, rng, rows, columns, targets):
    """Design and targets of one of KINDS."""
    design, y = rng.standard_normal((rows, columns)), rng.standard_normal((rows, targets))
    if kind == "integers":
        design = rng.integers(-1, 2, (rows, columns)).astype(float)
        y = rng.integers(-3, 4, (rows, targets)).astype(float)
    if kind == "duplicated columns":
        design[:, -1] = design[:, 0]
    if kind == "zero column":
        design[:, 0] = 0
    if kind == "badly scaled":
        design, y = design * 10.0 ** rng.uniform(-8, 8, columns), y * 10.0 ** rng.uniform(-8, 8, targets)
    if kind == "location":
        design = np.ones((rows, 1))
    if kind == "sparse noise":
        y = design @ rng.standard_normal((columns, targets)) + (rng.random((rows, targets)) < 0.2) * y
    if kind == "repeated rows":
        design = design[rng.integers(0, rows, rows)]
    if kind == "uneven rows":
        design = design * 10.0 ** rng.uniform(-4, 4, (rows, 1))
    if kind == "duplicated targets":
        y[:, -1] = y[:, 0]
    if kind == "huge noise":
        y = design @ rng.standard_normal((columns, targets)) + (rng.random((rows, targets)) < 0.2) * y * 1e8
    if kind == "low rank":
        design = design[:, :1] @ rng.standard_normal((1, columns))
    return design, y


KINDS = [
    "generic",
    "integers",
    "duplicated columns",
    "zero column",
    "badly scaled",
    "location",
    "sparse noise",
    "repeated rows",
    "uneven rows",
    "low rank",
    "duplicated targets",
    "huge noise",
]
