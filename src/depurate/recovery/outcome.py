"""What became of one layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from depurate.recovery.exact import ExactFit
from depurate.recovery.robust import Repair
from depurate.spans import Moments, Site


@dataclass(frozen=True)
class LayerOutcome:
    """One layer after the walk passed it: all that an account of it needs.

    Attributes:
        site: The layer.
        method: What was done: `exact`, `soft`, `robust`, `statistics`, `filled` or `none`.
        suspect: Kernels as received, shape (groups, kernels, fan_in); BatchNorm: (1, 2, channels) mean and variance.
        anchor: Same shape.
        purified: Same shape.
        hits: Entries known to be contaminated, same shape.
        moments: None for BatchNorm, and where nothing had to be known of the layer.
        fits: One per group where exact recovery ran.
        truncated: Whether exact recovery had to cut the span off.
        doubted: Whether what reaches the layer was made by estimates, or by its own contaminated weights where it is
            used more than once, so that nothing can be certified here.
        repair: What robust recovery found, where it ran.
        anchored: Whether the anchor has this layer.
        seconds: Wall time.
        least: Of BatchNorm: variances that new ones are to be no smaller than, from `least_variances`.
    """

    site: Site
    method: str
    suspect: Tensor
    anchor: Tensor
    purified: Tensor
    hits: Tensor
    moments: Moments | None = None
    fits: tuple[ExactFit, ...] = ()
    truncated: bool = False
    doubted: bool = False
    repair: Repair | None = None
    anchored: bool = False
    seconds: float = 0.0
    least: Tensor | None = None

    @property
    def estimated(self) -> bool:
        """Whether the layer was changed without a certificate for all of it: what it makes is an estimate."""
        if self.method == "exact":
            return not all(bool(fit.certified.all()) for fit in self.fits)
        return self.method != "none"
