"""The strength of the soft recovery, chosen without labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from depurate.recovery import Agreement, Trial

STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3, 0.6)
DEFAULT_STRENGTH = 0.1
_TOLERATED_LOSS = 0.02


def choose_strength(
    attempt: Callable[[float], Agreement],
    confirm: Callable[[float], Agreement],
    strengths: tuple[float, ...] = STRENGTHS,
    tolerated: float = _TOLERATED_LOSS,
) -> tuple[Trial, ...]:
    """Choose the largest strength that costs little accuracy by the suspect's own confidences.

    A backdoor leaves no trace on benign images, so they cannot say when it is gone; they can say what a strength
    costs: the expected loss + its standard error, on images held back. The rule takes the most removal that the
    tolerated cost buys: strengths are tried in ascending order on one part of the images until one costs too much,
    and the best is confirmed with every image held back in turn, stepping down where that shows more cost.

    Args:
        attempt: Recovers at a strength and compares on one held-back part.
        confirm: The same with every image held back in turn: dearer and surer.
        strengths: To try, ascending.
        tolerated: Largest cost, of 1.

    Returns:
        One trial a strength tried, exactly one of them chosen (the smallest strength if all cost too much).

    Example:
        >>> quick = lambda strength: Agreement(100, 0.9, 0.8, 1.0, strength / 50)
        >>> sure = lambda strength: Agreement(500, 0.9, 0.8, 1.0, strength / 10)
        >>> [(trial.strength, trial.chosen) for trial in choose_strength(quick, sure, (0.03, 0.1, 0.3, 0.6))]
        [(0.03, False), (0.1, True), (0.3, False), (0.6, False)]
    """
    trials: list[Trial] = []
    for strength in strengths:
        trials.append(Trial(strength, attempt(strength), chosen=False))
        if _cost(trials[-1]) > tolerated:
            break
    best = max((i for i, trial in enumerate(trials) if _cost(trial) <= tolerated), default=0)
    while True:
        trials[best] = Trial(strengths[best], confirm(strengths[best]), chosen=False)
        if best == 0 or _cost(trials[best]) <= tolerated:
            break
        best -= 1
    trials[best] = replace(trials[best], chosen=True)
    return tuple(trials)


def _cost(trial: Trial) -> float:
    return trial.agreement.expected_loss + trial.agreement.loss_error
