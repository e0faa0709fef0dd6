"""Study: the whole recovery, kernels and then output on recovered features, network by network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depurate.paper import contaminate_network, recover, relative_errors
from depurate.reproduce.figures import COLOURS, MARKERS, heat, panels
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import ACTIVATIONS, Shape, trained_network
from depurate.reproduce.synthetic.noise import LAWS
from depurate.reproduce.synthetic.transition import EXACT

_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_SMALL, _LARGE = (2, 100, 200), (4, 1000, 2000)


@dataclass(frozen=True)
class PipelineCase:
    """One trained network, contaminated and recovered at several ε.

    Attributes:
        n: Training inputs.
        m: Patches of an input.
        k: Numbers a patch has.
        p: Kernels.
        law: Of the noise.
        activation: ψ.
        fractions: ε; every one has noise of its own.
        seed: Of everything.
    """

    n: int
    m: int
    k: int
    p: int
    law: str
    activation: str
    fractions: tuple[float, ...]
    seed: int


def run(case: PipelineCase) -> dict[str, Any]:
    """Train once, then contaminate and recover at every ε."""
    shape = Shape(case.n, case.m, case.k, case.p)
    trained, patches = trained_network(shape, case.seed, activation=case.activation, steps=200)
    found = []
    for fraction in case.fractions:
        suspect = contaminate_network(trained.final, fraction, LAWS[case.law], seed=case.seed)
        recovery = recover(suspect, trained.initial, patches)
        errors = relative_errors(recovery, trained.final)
        exact = errors.kernels <= EXACT
        found.append(
            {
                "fraction": fraction,
                "kernels": int(exact.sum()),
                "kernels_certified": int(recovery.kernels_certified.sum()),
                "false": int((recovery.kernels_certified & ~exact).sum())
                + int(recovery.output_certified and errors.output > EXACT),
                "output": errors.output <= EXACT,
                "output_certified": recovery.output_certified,
                "worst_kernel": float(errors.kernels.max()),
                "output_error": errors.output,
            }
        )
    return {"runs": found}


def study(*, quick: bool, seeds: int) -> Study:
    """A grid of sizes, every law, every activation, and one network of k = 1000, p = 2000."""
    m, k, p = _SMALL
    fractions = (0.1, 0.3, 0.5) if quick else _FRACTIONS
    inputs = (5, 15) if quick else (5, 10, 15, 20)
    plan = [(n, m, k, p, "gaussian", "relu") for n in inputs]
    plan += [(5, m, k, p, law, "relu") for law in LAWS if law != "gaussian"]
    plan += [(5, m, k, p, "gaussian", psi) for psi in ACTIVATIONS if psi != "relu"]
    cases = [PipelineCase(*what, fractions, seed) for seed in range(seeds) for what in plan]
    if not quick:
        cases += [PipelineCase(50, *_LARGE, "gaussian", "relu", (0.1, 0.3), seed) for seed in range(2)]
    question = (
        "A network is trained, kernels first and output second; all its weights are hit; the kernels are recovered, "
        "and the output on the features of the recovered kernels. How often is everything exact?"
    )
    return Study(
        "pipeline", "Both layers: the whole recovery", question, 1, tuple(cases), run, draw, tabulate
    )


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Probability of exactness of kernels, output and both over nm/k and ε; and both by law and activation."""
    small = [record for record in records if record.config["k"] == _SMALL[1]]
    grid = _cells(r for r in small if (r.config["law"], r.config["activation"]) == ("gaussian", "relu"))
    if not grid:
        return ()
    inputs, levels = sorted({n for n, _ in grid}), sorted({e for _, e in grid})
    figure, axes = panels(3)
    titles = ("all kernels exact", "output exact", "both exact and certified")
    for which, (panel, title) in enumerate(zip(axes, titles, strict=True)):
        share = np.array([[grid.get((n, e), (np.nan,) * 3)[which] for e in levels] for n in inputs])
        heat(panel, [_SMALL[0] * n / _SMALL[1] for n in inputs], levels, share)
        for i, n in enumerate(inputs):
            for j, level in enumerate(levels):
                place = (_SMALL[0] * n / _SMALL[1], level)
                colour = "white" if share[i, j] < 0.6 else "#1d2430"
                panel.text(*place, f"{share[i, j]:.2f}", ha="center", va="center", color=colour, fontsize=8)
        panel.set(title=title, xlabel="nm / k  (n / p is a quarter of it)", ylabel="ε")
    caption = (
        f"Share of networks (k = {_SMALL[1]}, p = {_SMALL[2]}, m = {_SMALL[0]}, ReLU, Gaussian noise). All kernels "
        "means every one of 200 at once, which breaks earlier than one kernel does. The output is recovered on the "
        "features of recovered kernels: it fails where they do."
    )
    first = Picture(
        "pipeline", "Kernels, output, both", caption, figure, "Shares of networks; see the table."
    )
    return (first, _by_kind(small))


def _by_kind(records: Sequence[Record]) -> Picture:
    figure, axes = panels(2)
    for panel, name, other in zip(axes, ("law", "activation"), ("relu", "gaussian"), strict=True):
        opposite = "activation" if name == "law" else "law"
        chosen = [r for r in records if r.config[opposite] == other and r.config["n"] == 5]
        for i, kind in enumerate(sorted({r.config[name] for r in chosen})):
            cells = _cells(r for r in chosen if r.config[name] == kind)
            levels = sorted(e for _, e in cells)
            shares = [cells[5, e][2] for e in levels]
            style: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i], "alpha": 0.85}
            panel.plot(levels, shares, label=kind, **style)
        panel.set(title=f"by {name}", xlabel="ε", ylabel="both exact and certified", ylim=(-0.04, 1.04))
        panel.legend()
    caption = "Share of networks recovered in full, nm/k = 0.1, n/p = 0.025, by the noise's law and by ψ."
    words = "Curves of the share of networks recovered in full over ε; see the table."
    return Picture("pipeline-kinds", "Laws and activations", caption, figure, words)


def _cells(records: Iterable[Record]) -> dict[tuple[int, float], tuple[float, float, float]]:
    """Share of networks with kernels exact, output exact, both exact and certified, by (n, ε)."""
    gathered: dict[tuple[int, float], list[tuple[bool, bool, bool]]] = defaultdict(list)
    for record in records:
        units = record.config["p"]
        for one in record.results["runs"]:
            exact = one["kernels"] == units
            both = exact and one["output"] and one["output_certified"]
            gathered[record.config["n"], one["fraction"]].append((exact, one["output"], both))
    return {
        key: (float(shares[0]), float(shares[1]), float(shares[2]))
        for key, found in gathered.items()
        for shares in [np.mean(found, axis=0)]
    }


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Every cell in numbers."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        config = record.config
        for one in record.results["runs"]:
            key = (config["k"], config["p"], config["n"], config["m"], config["law"], config["activation"])
            groups[(*key, one["fraction"])].append(one)
    rows = []
    for (k, p, n, m, law, psi, fraction), runs in sorted(groups.items()):
        rows.append(
            (
                f"k={k} p={p} n={n} m={m}",
                law,
                psi,
                f"{fraction:g}",
                str(len(runs)),
                f"{np.mean([one['kernels'] / p for one in runs]):.3f}",
                f"{np.mean([one['kernels'] == p for one in runs]):.2f}",
                f"{np.mean([one['output'] for one in runs]):.2f}",
                f"{np.mean([one['output_certified'] for one in runs]):.2f}",
                str(sum(one["false"] for one in runs)),
            )
        )
    columns = (
        "size",
        "law",
        "ψ",
        "ε",
        "networks",
        "kernels",
        "all kernels",
        "output",
        "output certified",
        "false",
    )
    caption = (
        "Shares: of kernels exact, of networks with all kernels exact, with the output exact, with the output and so "
        "everything certified. False: certificates of wrong weights."
    )
    return (Table("Whole networks", columns, tuple(rows), caption),)
