"""Study: at which share of hit entries the recovery of kernels breaks, over nm/k."""

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

_PATCHES = 2


@dataclass(frozen=True)
class KernelCase:
    """Kernels of one network, trained on nm = ratio·k patches.

    Attributes:
        k: Numbers a kernel has.
        ratio: nm/k.
        law: Of the noise.
        kernels: How many the network has; all are recovered.
        seed: Of inputs, targets, initialisation and noise.
    """

    k: int
    ratio: float
    law: str
    kernels: int
    seed: int


def run(case: KernelCase) -> dict[str, Any]:
    """Train a network, contaminate its kernels, find where their recovery breaks."""
    shape = Shape(round(case.ratio * case.k / _PATCHES), _PATCHES, case.k, case.kernels)
    trained, patches = trained_network(shape, case.seed, steps=30)
    design = patches.flatten(0, 1).T
    noise = noise_of(case.law, design, case.kernels, stream(case.seed, "noise"))
    guess = threshold(case.ratio, case.law, False) - NEARBY
    found = find_breaks(design, trained.final.kernels.T, trained.initial.kernels.T, noise, GRID, guess)
    return {"exact": found.exact, "certified": found.certified, "false": found.false, "solved": found.solved}


def study(*, quick: bool, seeds: int) -> Study:
    """Every law at k = 250 and k = 1000; with `quick` two at k = 100."""
    laws = (*LAWS, ADVERSARY)
    if quick:
        plan = [(100, law, ratio, 4) for law in ("gaussian", "same-sign") for ratio in (0.1, 0.3, 0.5)]
    else:
        plan = [(250, law, ratio, 3) for law in laws for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)]
        plan += [(1000, "gaussian", ratio, 3) for ratio in (0.1, 0.2, 0.3, 0.4, 0.5)]
        plan += [(1000, law, ratio, 2) for law in laws if law != "gaussian" for ratio in (0.1, 0.3, 0.5)]
    cases = tuple(
        KernelCase(k, ratio, law, count, seed) for seed in range(seeds) for k, law, ratio, count in plan
    )
    question = (
        "Patches are Gaussian, a network is trained on them, and each entry of its kernels is hit with probability ε. "
        "Up to which ε does l1 give every number back?"
    )
    title = "Kernels: where exact recovery breaks"
    return Study("kernels", title, question, 2, cases, run, draw, tabulate)


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """One panel a law at the smaller k, which has most ratios, with the levels of the larger k on top."""
    groups = curves(records, ("law", "k"))
    maps = [
        Map(
            f"{law} noise",
            law,
            False,
            {int(str(k)): found for (other, k), found in groups.items() if other == law},
        )
        for law in (*LAWS, ADVERSARY)
        if any(other == law for other, _ in groups)
    ]
    caption = (
        "Share of kernels recovered to a relative error of 1e-8 (dark: none, light: all), the ε at which it is one "
        "half, and the threshold of a random span: δ(ε) + nm/k = 1. Values and signs of the noise do not matter, only "
        "how many entries it hits, because signs of rows can be flipped without changing a Gaussian design's law. An "
        "adversary who knows the patches is another matter: there the line is the limit that no span escapes, "
        "min(0.239, threshold), and recovery breaks below it. Last panel: measured minus theory; the band is 0.03."
    )
    proofs = (
        "The same for certificates: optimal, unique, and every entry it rests on confirmed by the others."
    )
    return (
        draw_maps("kernels", "Recovery of kernels", caption, maps, "exact", ("nm / k", "k")),
        draw_maps("kernels-certified", "Certified kernels", proofs, maps, "certified", ("nm / k", "k")),
    )


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Measured and theoretical thresholds."""
    rows = []
    for (law, k), found in curves(records, ("law", "k")).items():
        for curve in found:
            theory = threshold(curve.ratio, str(law), False)
            rows.append(
                (
                    str(law),
                    str(k),
                    *curve.against(theory),
                )
            )
    columns = (
        "law",
        "k",
        "nm/k",
        "designs / kernels",
        "ε exact",
        "ε certified",
        "theory",
        "difference",
        "false",
    )
    caption = (
        "ε at which half the kernels are exact, and certified. A design is one seed: its own inputs, targets, "
        "initialisation and noise; kernels of one design share the inputs but not the noise. False: certificates of "
        "wrong kernels, at every ε tried, which is near the break. Further out an adversary can fake them: noise that "
        "equals a vector of the span on the hit entries leaves a second answer as consistent as the truth."
    )
    return (Table("Thresholds of kernels", columns, tuple(rows), caption),)
