"""Study: how far reweighting moves the threshold of l1 at a size where both are sharp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depurate.paper import l1_threshold, undo
from depurate.reproduce.figures import COLOURS, MARKERS, panels
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import Shape, trained_network
from depurate.reproduce.synthetic.noise import LAWS, drawn
from depurate.reproduce.synthetic.transition import EXACT

_Key = tuple[int, float, str]
_TIMES = (0, 4)
_STEPS = tuple(round(0.02 * step, 2) for step in range(-2, 8))


@dataclass(frozen=True)
class ReweightedCase:
    """Kernels of one network around the threshold of l1.

    Attributes:
        k: Numbers a kernel has.
        ratio: nm/k.
        law: Of the noise.
        kernels: How many.
        steps: ε minus the threshold of l1.
        seed: Of everything.
    """

    k: int
    ratio: float
    law: str
    kernels: int
    steps: tuple[float, ...]
    seed: int


def run(case: ReweightedCase) -> dict[str, Any]:
    """Count kernels recovered exactly, and certified, without and with reweighting."""
    shape = Shape(round(case.ratio * case.k / 2), 2, case.k, case.kernels)
    trained, patches = trained_network(shape, case.seed, steps=30)
    design, clean = patches.flatten(0, 1).T, trained.final.kernels.T
    noise = drawn(LAWS[case.law], (case.k, case.kernels), stream(case.seed, "noise"))
    found = []
    for step in case.steps:
        hit = clean + noise.at(l1_threshold(case.ratio) + step)
        for times in _TIMES:
            again = undo(design, hit, trained.initial.kernels.T, reweight=times)
            exact = (again.weights - clean).norm(dim=0) <= EXACT * clean.norm(dim=0)
            counts = {"exact": int(exact.sum()), "certified": int((again.certified & exact).sum())}
            false = int((again.certified & ~exact).sum())
            found.append({"step": step, "times": times, **counts, "false": false})
    return {"runs": found}


def study(*, quick: bool, seeds: int) -> Study:
    """K = 400 at spans of 10, 30 and 50 %, and at 30 % noise of one size, and k = 1000; with `quick` k = 100."""
    steps = _STEPS[::3] if quick else _STEPS
    plan = [(400, r, "gaussian") for r in (0.1, 0.3, 0.5)] + [
        (400, 0.3, "same-sign"),
        (1000, 0.3, "gaussian"),
    ]
    if quick:
        plan = [(100, 0.3, "gaussian")]
    count = 4 if quick else 2
    cases = tuple(
        ReweightedCase(k, ratio, law, count, steps, seed) for seed in range(seeds) for k, ratio, law in plan
    )
    question = (
        f"l1 solved again {_TIMES[-1]} times with weights 1/(1 + |residual|/δ): how far out does that move the ε at "
        "which half the kernels are exact?"
    )
    return Study("reweighted", "Reweighted l1", question, 2, cases, run, draw, tabulate)


def _curve(records: Sequence[Record], key: _Key, times: int, what: str) -> dict[float, float]:
    cells: dict[float, list[float]] = {}
    for record in records:
        if _key(record) == key:
            for one in record.results["runs"]:
                if one["times"] == times:
                    cells.setdefault(one["step"], []).append(one[what] / record.config["kernels"])
    return {step: float(np.mean(values)) for step, values in sorted(cells.items())}


def _half(curve: dict[float, float]) -> float | None:
    steps, shares = list(curve), list(curve.values())
    for i in range(1, len(steps)):
        if shares[i] <= 0.5 < shares[i - 1]:
            rise = (shares[i - 1] - 0.5) / (shares[i - 1] - shares[i])
            return steps[i - 1] + (steps[i] - steps[i - 1]) * rise
    return None


def _key(record: Record) -> _Key:
    return record.config["k"], record.config["ratio"], record.config["law"]


def _keys(records: Sequence[Record]) -> list[_Key]:
    return sorted({_key(record) for record in records})


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Shares of exact kernels over the distance from the threshold."""
    keys = _keys(records)
    figure, axes = panels(len(keys), width=220)
    for panel, key in zip(axes, keys, strict=True):
        for i, times in enumerate(_TIMES):
            curve = _curve(records, key, times, "exact")
            label = "l1" if times == 0 else f"reweighted {times} times"
            panel.plot(list(curve), list(curve.values()), color=COLOURS[i], marker=MARKERS[i], label=label)
        panel.axvline(0, color="#8a8f98", ls="--")
        panel.set(
            title=f"k = {key[0]}, nm/k = {key[1]:g}\n{key[2]} noise",
            xlabel="ε − threshold of l1",
            ylim=(-0.04, 1.04),
        )
    axes[0].set_ylabel("kernels exact")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
    caption = "Share of exact kernels against how far ε is past the threshold that theory gives for l1."
    words = "; ".join(" ".join(row) for row in tabulate(records)[0].rows)
    return (Picture("reweighted", "Reweighting moves the threshold out", caption, figure, words),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """By how much."""
    rows = []
    for key in _keys(records):
        levels = [_half(_curve(records, key, times, "exact")) for times in _TIMES]
        proved = _half(_curve(records, key, _TIMES[-1], "certified"))
        false = sum(
            one["false"] for record in records if _key(record) == key for one in record.results["runs"]
        )
        moved = "beyond the grid" if None in levels else f"{levels[1] - levels[0]:+.3f}"  # type: ignore[operator]
        texts = tuple("-" if level is None else f"{level:+.3f}" for level in (*levels, proved))
        rows.append((str(key[0]), f"{key[1]:g}", key[2], *texts, moved, str(false)))
    columns = ("k", "nm/k", "law", "l1", "reweighted", "reweighted, certified", "moved by", "false")
    caption = (
        "ε − threshold at which half the kernels are exact. Certified: the rows fitted exactly confirm each other, and "
        "the fit is optimal for the weights used last."
    )
    return (Table("Reweighting", columns, tuple(rows), caption),)
