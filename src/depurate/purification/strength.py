"""The strength of the soft recovery, chosen without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from depurate.recovery import Agreement, Trial

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
DEFAULT_STRENGTH = 0.1
_TOLERATED_LOSS = 0.01


def choose_strength(
    attempt: Callable[[float], Agreement],
    strengths: tuple[float, ...] = STRENGTHS,
    tolerated: float = _TOLERATED_LOSS,
) -> tuple[Trial, ...]:
    """Choose the largest strength that costs little accuracy by the suspect's own confidences.

    A backdoor leaves no trace on benign images, so they cannot say when it is gone; they can say what a strength
    costs. The rule takes the most removal that the tolerated loss buys, and stops at the first strength beyond it.

    Args:
        attempt: Recovers at a strength and compares with the suspect on held-back images.
        strengths: To try, ascending.
        tolerated: Largest expected loss of accuracy, of 1.

    Returns:
        The trials made, in order, exactly one of them chosen (the smallest strength if all cost too much).

    Example:
        >>> cost = lambda strength: Agreement(100, 0.9, 0.8, 1.0, strength / 10)
        >>> [(trial.strength, trial.chosen) for trial in choose_strength(cost, (0.03, 0.1, 0.3, 0.6))]
        [(0.03, False), (0.1, True), (0.3, False)]
    """
    trials: list[Trial] = []
    for strength in strengths:
        trials.append(Trial(strength, attempt(strength), chosen=False))
        if trials[-1].agreement.expected_loss > tolerated:
            break
    best = max((i for i, trial in enumerate(trials) if trial.agreement.expected_loss <= tolerated), default=0)
    return tuple(replace(trial, chosen=i == best) for i, trial in enumerate(trials))
