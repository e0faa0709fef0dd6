"""Least absolute deviations as a scikit-learn estimator."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from depurate.errors import InputError
from depurate.solver._lad import lad
from depurate.solver._solution import Solution, Status


class MultiTargetLAD(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Linear regression by least absolute deviations, for any number of targets at once.

    min over coefficients and intercept of Σ_i ρ(y_i − x_iᵀu − b) + ½ ridge ‖u‖², each target on its own; see
    `depurate.solver.lad`.

    Args:
        quantile: Conditional quantile to fit, between 0 and 1.
        huber: Residuals below this are squared, in units of the targets.
        ridge: Strength of the squared penalty on the coefficients; with an intercept, that is penalised too.
        fit_intercept: Add a constant column to the design.
        max_iterations: Steps of the solver at most.

    Attributes:
        coef_: Shape (features,) or (targets, features).
        intercept_: A number or shape (targets,).
        solution_: The `Solution` with gaps, margins and duals.
        n_features_in_: Features seen in `fit`.

    >>> import numpy as np
    >>> x = np.arange(6.0)[:, None]
    >>> y = 2 * x[:, 0] + 1
    >>> y[3] = 100.0
    >>> model = MultiTargetLAD().fit(x, y)
    >>> np.round(model.predict([[10.0]]), 9).tolist()
    [21.0]
    """

    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64] | float
    solution_: Solution
    n_features_in_: int

    def __init__(
        self,
        *,
        quantile: float = 0.5,
        huber: float = 0.0,
        ridge: float = 0.0,
        fit_intercept: bool = True,
        max_iterations: int = 100,
    ) -> None:
        self.quantile = quantile
        self.huber = huber
        self.ridge = ridge
        self.fit_intercept = fit_intercept
        self.max_iterations = max_iterations

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> MultiTargetLAD:
        """Fit all targets.

        Args:
            X: Shape (samples, features).
            y: Shape (samples,) or (samples, targets).
            sample_weight: Shape (samples,) or a number, nonnegative.

        Warns:
            ConvergenceWarning: Some targets are not solved to the tolerance.
        """
        rows: NDArray[np.float64]
        rows, goals = validate_data(self, X, y, multi_output=True, y_numeric=True, dtype=np.float64)
        design = np.column_stack([rows, np.ones(len(rows))]) if self.fit_intercept else rows
        weights = None
        if sample_weight is not None:
            share = _real(sample_weight)
            share = np.full(len(rows), share) if share.ndim == 0 else share
            if share.shape != (len(rows),):
                raise InputError(f"sample_weight: shape {share.shape}; expected ({len(rows)},)")
            weights = torch.as_tensor(share)
        solution = lad(
            torch.as_tensor(np.array(design)),
            torch.as_tensor(np.array(goals, dtype=np.float64)),
            quantile=self.quantile,
            huber=self.huber,
            ridge=self.ridge,
            weights=weights,
            max_iterations=self.max_iterations,
        )
        found = solution.coefficients.numpy().T
        self.coef_ = found[..., :-1] if self.fit_intercept else found
        # Indexed by (), an array without dimensions becomes a number and others stay what they are.
        self.intercept_ = found[..., -1][()] if self.fit_intercept else 0.0
        self.solution_ = solution
        missed = solution.status.count(Status.INEXACT)
        if missed:
            warnings.warn(
                f"{missed} of {len(solution.status)} targets are inexact: {Status.INEXACT.advice}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float64]:
        """Predict: shape (samples,) or (samples, targets)."""
        check_is_fitted(self)
        rows: NDArray[np.float64] = validate_data(self, X, reset=False, dtype=np.float64)
        predicted: NDArray[np.float64] = rows @ self.coef_.T + self.intercept_
        return predicted


def _real(sample_weight: ArrayLike) -> NDArray[np.float64]:
    """Bring weights to float64; imaginary parts are refused, where numpy drops them with a warning."""
    try:
        share = np.asarray(sample_weight)
        if share.dtype.kind != "c":
            return np.array(share, dtype=np.float64)
    except (TypeError, ValueError):
        pass
    raise InputError("sample_weight: expected real numbers")
