"""Where least absolute deviations stop undoing sparse noise: the threshold for Gaussian designs."""

from __future__ import annotations

import math

from scipy.optimize import brentq, minimize_scalar

from depurate.errors import InputError

# Multipliers of the subdifferential that the minimum is sought over; it lies below 4 wherever rounding can tell.
_LEAST, _MOST = 1e-6, 8.0
# Shifts of the mean that can balance a multiplier of at most _MOST.
_REACH = 60.0
_ROUNDING = 1e-9


def descent_dimension(fraction: float, *, imbalance: float = 0.0) -> float:
    """Statistical dimension, per entry, of the cone of directions in which ‖z‖₁ does not grow.

    δ(ε) = min_τ [ε (1 + τ²) + (1 − ε) E dist²(g, [−τ, τ])],  g ~ N(0, 1), ε the share of nonzero entries. It depends
    on the signs of z in no way. Where the design holds the vector of ones, what matters is the cone plus the line
    through the ones: δ(ε) = min_τ [ε (1 + τ²) + (1 − ε) E (g − v)²], v = clip(g − μ, −τ, τ), with μ such that
    ε τ b + (1 − ε) E v = 0 and b the excess of one sign.

    Args:
        fraction: ε, 0 to 1.
        imbalance: b = |share of positive − share of negative| among the nonzero entries, where the design holds the
            vector of ones; 0 where it does not.

    Returns:
        Between 0 and 1.

    Raises:
        InputError: A number outside its range.

    >>> round(descent_dimension(0.1), 4), round(descent_dimension(0.1, imbalance=1.0), 4)
    (0.3288, 0.3478)

    Source: Amelunxen, Lotz, McCoy & Tropp, Living on the edge (2014), proposition 4.5; the line is our addition.
    """
    _check("fraction", fraction)
    _check("imbalance", imbalance)
    if fraction * imbalance >= 1 - fraction - _ROUNDING:  # the ones alone lower the norm
        return 1.0

    def value(multiplier: float) -> float:
        shift = _shift(multiplier, fraction, imbalance) if imbalance else 0.0
        return fraction * (1 + multiplier**2) + (1 - fraction) * _clipped(multiplier, shift)[1]

    found = minimize_scalar(value, bounds=(_LEAST, _MOST), method="bounded", options={"xatol": 1e-9})
    return min(float(found.fun), 1.0)


def l1_threshold(ratio: float, *, imbalance: float = 0.0) -> float:
    """Largest share ε of hit entries that least absolute deviations undo, in the limit of large designs.

    A column space that is uniformly random of dimension r in d meets the descent cone of ‖z‖₁ only at 0, with
    probability tending to one, if and only if δ(ε) + r/d < 1.

    Args:
        ratio: r/d, over 0 and below 1: nm/k for the kernels, n/p for the output.
        imbalance: As in `descent_dimension`: 1 for noise of one sign on features with a mean (ReLU, GELU).

    Returns:
        The ε with δ(ε) + r/d = 1.

    Raises:
        InputError: A number outside its range.

    >>> round(l1_threshold(0.1), 3), round(l1_threshold(0.1, imbalance=1.0), 3)
    (0.61, 0.395)

    Source: Amelunxen, Lotz, McCoy & Tropp, Living on the edge (2014), theorem II; the same curve for imbalance 0 as
    the weak threshold of Donoho & Tanner (2009).
    """
    if not 0 < ratio < 1:
        raise InputError(f"ratio: {ratio}; expected a number over 0 and below 1")
    _check("imbalance", imbalance)
    end = 1 / (1 + imbalance)
    return float(brentq(lambda e: descent_dimension(e, imbalance=imbalance) + ratio - 1, 0.0, end, xtol=1e-9))


def adversarial_limit() -> float:
    """Share of entries that an adversary who knows the Gaussian design needs, however few its columns.

    Hits on the largest entries of one direction h of the span, with its signs, make ‖z − h‖₁ < ‖z‖₁ as soon as they
    hold half of ‖h‖₁: P(|g| > t) with E|g|1[|g| > t] = E|g| / 2, that is exp(−t²/2) = 1/2.

    >>> round(adversarial_limit(), 4)
    0.239
    """
    return 2 * _tail(math.sqrt(2 * math.log(2)))


def _clipped(multiplier: float, shift: float) -> tuple[float, float]:
    """E v and E (g − v)² for v = clip(g − shift, −multiplier, multiplier)."""
    high, low = shift + multiplier, shift - multiplier
    above, below = _tail(high), _tail(-low)
    top, bottom = _density(high), _density(low)
    between = 1 - above - below
    mean = multiplier * (above - below) + (bottom - top) - shift * between
    square = (1 + multiplier**2) * (above + below) + (high - 2 * multiplier) * top
    square += -(low + 2 * multiplier) * bottom + shift**2 * between
    return mean, square


def _shift(multiplier: float, fraction: float, imbalance: float) -> float:
    """μ with ε τ b + (1 − ε) E v = 0."""

    def balance(shift: float) -> float:
        return fraction * multiplier * imbalance + (1 - fraction) * _clipped(multiplier, shift)[0]

    return float(brentq(balance, 0.0, _REACH))


def _tail(point: float) -> float:
    return 0.5 * math.erfc(point / math.sqrt(2))


def _density(point: float) -> float:
    return math.exp(-(point**2) / 2) / math.sqrt(2 * math.pi)


def _check(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name}: {value}; expected a number from 0 to 1")
