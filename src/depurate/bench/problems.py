"""The problems of the solver benchmark: a design, clean targets in its span, and sparse noise on them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from depurate.errors import InputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One problem of the benchmark.

    Attributes:
        rows: d.
        columns: r.
        targets: p.
        share: Share ε of the entries hit.
        law: `gaussian`, `cauchy` or `same-sign`.
        design: Path of an .npz whose array `design` is used in place of a Gaussian one (its leading columns), or None.
    """

    rows: int
    columns: int
    targets: int
    share: float
    law: str = "gaussian"
    design: str | None = None

    @property
    def name(self) -> str:
        """A label for tables, such as `800×320×64, ε = 0.1, gaussian`."""
        kind = "" if self.design is None else f", {Path(self.design).stem}"
        return f"{self.rows}×{self.columns}×{self.targets}, ε = {self.share}, {self.law}{kind}"


SIZES = (
    (288, 58, 32),
    (576, 115, 64),
    (800, 320, 64),
    (1152, 230, 128),
    (2304, 460, 256),
    (4608, 920, 512),
)
# Many targets, against which the memory that does not depend on them is small.
MANY = Case(1152, 230, 4096, 0.1)
LAWS = ("gaussian", "cauchy", "same-sign")


def make(case: Case, seed: int = 0) -> tuple[Array, Array, Array]:
    """Draw the problem.

    Returns:
        Design (d, r), clean targets (d, p), contaminated targets (d, p).

    Raises:
        InputError: An unknown law of the noise, or a design file that does not fit.
    """
    rng = np.random.default_rng(seed)
    design = _design(case, rng)
    rows = design.shape[0]
    clean = design @ (
        rng.standard_normal((design.shape[1], case.targets)) / np.linalg.norm(design, axis=0)[:, None]
    )
    clean *= np.sqrt(rows / design.shape[1])
    noise = rng.standard_normal((rows, case.targets))
    if case.law == "cauchy":
        noise = noise / rng.standard_normal((rows, case.targets))
    elif case.law == "same-sign":
        noise = np.abs(noise) + 1
    elif case.law != "gaussian":
        raise InputError(f"law: {case.law!r}; expected one of {', '.join(LAWS)}")
    return design, clean, clean + noise * (rng.random((rows, case.targets)) < case.share)


def _design(case: Case, rng: np.random.Generator) -> Array:
    if case.design is None:
        return rng.standard_normal((case.rows, case.columns))
    with np.load(case.design) as archive:
        if "design" not in archive:
            raise InputError(f"{case.design}: no array named 'design'; it holds {', '.join(archive)}")
        design: Array = np.asarray(archive["design"], dtype=np.float64)
    if design.ndim != 2 or design.shape[1] < case.columns or design.shape[0] != case.rows:
        raise InputError(
            f"{case.design}: design of shape {design.shape}; expected ({case.rows}, ≥{case.columns})"
        )
    return design[:, : case.columns]
