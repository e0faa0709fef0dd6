"""How the walk is to recover each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from depurate.recovery.levels import Rounding, coarsest
from depurate.spans import Moments, Sampling


@dataclass(frozen=True)
class Recipe:
    """How to recover each layer.

    Attributes:
        method: `exact` (l1 on the span), `soft` (closed form) or `auto` (exact where a probe of a few kernels is
            certified, soft elsewhere; only certain hits are replaced where a strength of None is given) or `robust`
            (entries that do not fit the rest of their layer are filled in).
        strength: λ of the soft recovery; None leaves layers alone that exact recovery cannot certify.
        rounding: Rounding in the weights, below which a residual counts as zero, by the name of the layer; or one
            number for all, relative to their updates.
        energy: Share of the patches' energy that `exact` keeps where the span is the whole space.
        sampling: How many patches to look at.
        repair: For `auto`: fill in, as `robust` does, the entries that do not fit where nothing can be certified.
        sparse: For both: whether the network as a whole shows sparse noise.
        damaged: For both: whether the network holds entries that no training produces.
        renew: Estimate all BatchNorm statistics anew, as is done with sparse noise and after soft recovery.
        thin: Multiple of the strength for layers that saw fewer patches than directions: with little strength they
            would repeat these patches and nothing else.
        guessed: Layers that come after parameters which were filled with a guess: nothing is certified there.
        only: Kernels, by the name of their layer, that soft recovery may change; None for all.
    """

    method: str
    strength: float | None
    rounding: float | Mapping[str, Rounding] = 1e-5
    energy: float = 0.99
    sampling: Sampling = field(default_factory=Sampling)
    repair: bool = False
    sparse: bool = False
    damaged: bool = False
    renew: bool = False
    thin: float = 1.0
    guessed: frozenset[str] = frozenset()
    only: Mapping[str, tuple[int, ...]] | None = None

    def strength_on(self, moments: Moments | None) -> float | None:
        """λ of a layer.

        >>> Recipe("soft", 0.01, thin=10).strength_on(None)
        0.01
        """
        if self.strength is None or moments is None or not moments.dual:
            return self.strength
        return self.thin * self.strength

    def rounding_on(self, name: str) -> float | Rounding:
        """Rounding of a layer; of the coarsest where nothing is known of it by its name.

        >>> Recipe("exact", None, rounding={"fc": Rounding(1e-5, 1e-7, 1e-3)}).rounding_on("fc").update
        1e-05
        """
        if not isinstance(self.rounding, Mapping):
            return self.rounding
        # What parametrised the weight may lie below the layer.
        below = [value for key, value in self.rounding.items() if f"{key}.".startswith(f"{name}.")]
        return coarsest(below or self.rounding.values()) if name else coarsest(self.rounding.values())

    @property
    def repairs(self) -> bool:
        """Whether layers are searched for entries that do not fit."""
        return self.repair or self.method == "robust"

    @property
    def only_fills(self) -> bool:
        """Whether nothing but certain hits is replaced, so that nothing has to be known of a layer without any.

        >>> Recipe("soft", None).only_fills, Recipe("soft", None, repair=True).only_fills
        (True, False)
        """
        return self.method == "soft" and self.strength is None and not self.repairs
