"""The rivals of the solver benchmark: each solves one least absolute deviations problem, coefficients returned.

Every rival gets the formulation it is fastest with and the tightest tolerance it takes. All are imported when called.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import numpy as np

from depurate.bench.problems import Array


def highs_simplex(design: Array, target: Array) -> Array:
    """SciPy's HiGHS, dual simplex, on min Σ(e⁺ + e⁻) subject to A u + e⁺ − e⁻ = y."""
    from scipy.optimize import linprog

    rows, columns = design.shape
    result = linprog(
        np.concatenate([np.zeros(columns), np.ones(2 * rows)]),
        A_eq=np.hstack([design, np.eye(rows), -np.eye(rows)]),
        b_eq=target,
        bounds=[(None, None)] * columns + [(0, None)] * (2 * rows),
        method="highs-ds",
    )
    return np.asarray(result.x[:columns], dtype=np.float64)


def highs_ipm(design: Array, target: Array) -> Array:
    """SciPy's HiGHS, interior point with crossover, on max yᵀz subject to Aᵀz = 0, |z| ≤ 1."""
    from scipy.optimize import linprog

    rows, columns = design.shape
    result = linprog(
        -target, A_eq=design.T, b_eq=np.zeros(columns), bounds=[(-1, 1)] * rows, method="highs-ipm"
    )
    return -np.asarray(result.eqlin.marginals, dtype=np.float64)


def sklearn_quantile(design: Array, target: Array) -> Array:
    """QuantileRegressor of scikit-learn (HiGHS behind it)."""
    from sklearn.linear_model import QuantileRegressor

    model = QuantileRegressor(quantile=0.5, alpha=0.0, fit_intercept=False, solver="highs")
    return np.asarray(model.fit(design, target).coef_, dtype=np.float64)


def statsmodels_quantreg(design: Array, target: Array) -> Array:
    """QuantReg of statsmodels (iteratively reweighted least squares)."""
    module = import_module("statsmodels.regression.quantile_regression")
    return np.asarray(module.QuantReg(target, design).fit(q=0.5, max_iter=1000).params, dtype=np.float64)


def cvxpy_clarabel(design: Array, target: Array) -> Array:
    """CLARABEL through cvxpy on min ‖y − A u‖₁."""
    cvxpy = import_module("cvxpy")
    u = cvxpy.Variable(design.shape[1])
    cvxpy.Problem(cvxpy.Minimize(cvxpy.norm1(target - design @ u))).solve(solver="CLARABEL")
    return np.asarray(u.value, dtype=np.float64)


def ortools_pdlp(design: Array, target: Array) -> Array:
    """PDLP of OR-Tools on max yᵀz subject to Aᵀz = 0, |z| ≤ 1, relative tolerance 1e-9."""
    from scipy.sparse import csc_matrix

    solvers_pb2 = import_module("ortools.pdlp.solvers_pb2")
    pdlp = import_module("ortools.pdlp.python.pdlp")
    rows, columns = design.shape
    program = pdlp.QuadraticProgram()
    program.objective_vector = -target
    program.constraint_matrix = csc_matrix(design.T)
    program.constraint_lower_bounds = np.zeros(columns)
    program.constraint_upper_bounds = np.zeros(columns)
    program.variable_lower_bounds = -np.ones(rows)
    program.variable_upper_bounds = np.ones(rows)
    settings = solvers_pb2.PrimalDualHybridGradientParams()
    settings.termination_criteria.simple_optimality_criteria.eps_optimal_relative = 1e-9
    settings.termination_criteria.simple_optimality_criteria.eps_optimal_absolute = 1e-9
    result = pdlp.primal_dual_hybrid_gradient(program, settings)
    return -np.asarray(result.dual_solution, dtype=np.float64)


RIVALS: dict[str, Callable[[Array, Array], Array]] = {
    "highs-simplex": highs_simplex,
    "highs-ipm": highs_ipm,
    "sklearn": sklearn_quantile,
    "statsmodels": statsmodels_quantreg,
    "cvxpy-clarabel": cvxpy_clarabel,
    "ortools-pdlp": ortools_pdlp,
}
