"""Study: at which share of hit entries the recovery of the output breaks, over n/p."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import Shape, trained_network
from depurate.reproduce.synthetic.noise import ADVERSARY, LAWS, noise_of
from depurate.reproduce.synthetic.phase import GRID, NEARBY, Map, curves, draw_maps, threshold
from depurate.reproduce.synthetic.transition import find_breaks

_FAN_IN = 200
_WITH_MEAN = ("relu", "leaky_relu", "gelu")
_KINDS = (
    *(("relu", law) for law in (*LAWS, ADVERSARY)),
    *((psi, "same-sign") for psi in ("leaky_relu", "gelu", "tanh")),
)


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
    noise = noise_of(case.law, design, case.draws, stream(case.seed, "noise"))
    clean = trained.final.output[:, None].expand(-1, case.draws)
    anchor = trained.initial.output[:, None].expand(-1, case.draws)
    guess = threshold(case.ratio, case.law, case.activation in _WITH_MEAN) - NEARBY
    found = find_breaks(design, clean, anchor, noise, GRID, guess)
    return {"exact": found.exact, "certified": found.certified, "false": found.false, "solved": found.solved}


def study(*, quick: bool, seeds: int) -> Study:
    """Every law with ReLU and one sign with every ψ at p = 500, two laws at p = 2000; with `quick` p = 200."""
    if quick:
        kinds = (("relu", "gaussian"), ("relu", "same-sign"), ("tanh", "same-sign"))
        plan = [(200, ratio, law, psi, 4) for psi, law in kinds for ratio in (0.1, 0.3)]
    else:
        plan = [(500, ratio, law, psi, 3) for psi, law in _KINDS for ratio in (0.1, 0.2, 0.3, 0.4, 0.5)]
        plan += [
            (2000, ratio, law, "relu", 1) for law in ("gaussian", "same-sign") for ratio in (0.1, 0.2, 0.3)
        ]
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
    return Study("output", title, question, 2, cases, run, draw, tabulate)


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """One panel an activation and law at the smaller p, with the levels of the larger p on top."""
    groups = curves(records, ("activation", "law", "p"))
    maps = []
    for psi, law in _KINDS:
        sizes = {int(str(key[2])): found for key, found in groups.items() if key[:2] == (psi, law)}
        if sizes:
            maps.append(Map(f"{psi}, {law}", law, psi in _WITH_MEAN, sizes))
    caption = (
        "Share of output vectors recovered to 1e-8 (dark: none, light: all). With ReLU, leaky ReLU and GELU, noise of "
        "one sign breaks recovery earlier than noise of both signs, by the amount that the threshold for a span with "
        "the vector of ones predicts; with tanh, whose features have no mean, it does not. Last panel: measured minus "
        "theory; the band is 0.03."
    )
    proofs = (
        "The same for certificates: optimal, unique, and every entry it rests on confirmed by the others."
    )
    return (
        draw_maps("output", "Recovery of the output", caption, maps, "exact", ("n / p", "p")),
        draw_maps("output-certified", "Certified outputs", proofs, maps, "certified", ("n / p", "p")),
    )


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
