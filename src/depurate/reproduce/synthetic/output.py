"""Study: at which share of hit entries the recovery of the output breaks, over n/p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depurate.reproduce.figures import panels
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import Shape, trained_network
from depurate.reproduce.synthetic.noise import LAWS, drawn
from depurate.reproduce.synthetic.phase import GRID, curves, draw_phase, threshold
from depurate.reproduce.synthetic.transition import find_breaks

_FAN_IN = 200
_WITH_MEAN = ("relu", "leaky_relu", "gelu")


@dataclass(frozen=True)
class OutputCase:
    """The output weights of one network, trained on n = ratio·p inputs, kernels known.

    Attributes:
        p: Output weights.
        ratio: n/p.
        law: Of the noise.
        activation: ψ.
        draws: Independent noises on the one network.
        seed: Of inputs, targets, initialisation and noise.
    """

    p: int
    ratio: float
    law: str
    activation: str
    draws: int
    seed: int


def run(case: OutputCase) -> dict[str, Any]:
    """Train a network, contaminate its output several times, find where recovery breaks."""
    shape = Shape(round(case.ratio * case.p), 1, _FAN_IN, case.p)
    trained, patches = trained_network(shape, case.seed, activation=case.activation, steps=10)
    design = trained.final.features(patches).T
    noise = drawn(LAWS[case.law], (case.p, case.draws), case.seed)
    clean = trained.final.output[:, None].expand(-1, case.draws)
    anchor = trained.initial.output[:, None].expand(-1, case.draws)
    guess = threshold(case.ratio, case.law, case.activation in _WITH_MEAN) - 0.04
    found = find_breaks(design, clean, anchor, noise, GRID, guess)
    return {"exact": found.exact, "certified": found.certified, "false": found.false, "solved": found.solved}


def study(*, quick: bool, seeds: int) -> Study:
    """Outputs of p = 2000 at small n/p and of p = 500 throughout; with `quick` p = 200."""
    kinds = (("relu", "gaussian"), ("relu", "same-sign"), ("tanh", "same-sign"))
    if quick:
        plan = [(200, ratio, law, psi, 4) for psi, law in kinds for ratio in (0.1, 0.3)]
    else:
        plan = [(500, ratio, law, psi, 3) for psi, law in kinds for ratio in (0.1, 0.2, 0.3, 0.4, 0.5)]
        plan += [(2000, ratio, law, psi, 1) for psi, law in kinds[:2] for ratio in (0.1,)]
    cases = tuple(
        OutputCase(p, ratio, law, psi, draws, seed)
        for seed in range(seeds)
        for p, ratio, law, psi, draws in plan
    )
    question = (
        "The output weights are recovered in the span of the features of the kernels, here known. Features of ReLU "
        "have a mean, so their span nearly holds the vector of ones, and noise of one sign can hide along it."
    )
    title = "Output: where exact recovery breaks, and when signs matter"
    return Study("output", title, question, 1, cases, run, draw, tabulate)


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """One panel an activation and law, at the p that was run over most ratios."""
    groups = curves(records, ("activation", "law", "p"))
    if not groups:
        return ()
    widest = {(psi, law): p for (psi, law, p), found in sorted(groups.items(), key=lambda item: len(item[1]))}
    figure, axes = panels(len(widest))
    words = []
    for panel, ((psi, law), p) in zip(axes, sorted(widest.items()), strict=True):
        found, mean = groups[psi, law, p], psi in _WITH_MEAN
        draw_phase(panel, found, str(law), mean=mean, label="n / p")
        panel.set_title(f"{psi}, {law} noise, p = {p}")
        worst = max(abs(c.half() - threshold(c.ratio, str(law), mean)) for c in found)
        words.append(f"{psi}, {law}, p = {p}: measured half level within {worst:.3f} of the line")
    caption = (
        "Share of output vectors recovered to 1e-8 (dark: none, light: all). With ReLU, noise of one sign breaks "
        "recovery earlier than noise of both signs, by the amount that the threshold for a span with the vector of "
        "ones predicts; with tanh, whose features have no mean, it does not."
    )
    return (Picture("output", "Recovery of the output", caption, figure, "; ".join(words)),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Measured and theoretical thresholds."""
    rows = []
    for (psi, law, p), found in curves(records, ("activation", "law", "p")).items():
        for curve in found:
            theory = threshold(curve.ratio, str(law), psi in _WITH_MEAN)
            rows.append(
                (
                    str(psi),
                    str(law),
                    str(p),
                    *curve.against(theory),
                )
            )
    columns = (
        "ψ",
        "law",
        "p",
        "n/p",
        "networks / noises",
        "ε exact",
        "ε certified",
        "theory",
        "difference",
        "false",
    )
    caption = (
        "As for the kernels. A network is one seed with its own inputs, targets and initialisation; the noises on one "
        "network are independent draws."
    )
    return (Table("Thresholds of the output", columns, tuple(rows), caption),)
