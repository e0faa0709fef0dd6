"""Study: the whole recovery, kernels and then output on recovered features, network by network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from depurate.paper import contaminate_network, recover, relative_errors
from depurate.reproduce.figures import COLOURS, MARKERS, heat, panels
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import ACTIVATIONS, Shape, trained_network
from depurate.reproduce.synthetic.noise import LAWS
from depurate.reproduce.synthetic.transition import EXACT

_Shares = tuple[float, float, float, float]
_FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
_SMALL, _LARGE, _LARGE_NETWORKS = (2, 100, 200), (4, 1000, 2000), 1
# Widths p at n = 10, m = 1, k = 100: n/p varies, nm/k = 0.1 does not.
_WIDTHS = (20, 33, 50, 100)
_NAMES = ("all kernels exact", "output exact", "both exact", "both certified")


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
        seed = stream(case.seed, f"noise {fraction}")
        suspect = contaminate_network(trained.final, fraction, LAWS[case.law], seed=seed)
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
    plan += [(10, 1, k, width, "gaussian", "relu") for width in (_WIDTHS[::2] if quick else _WIDTHS)]
    plan += [(5, m, k, p, law, "relu") for law in LAWS if law != "gaussian"]
    plan += [(5, m, k, p, "gaussian", psi) for psi in ACTIVATIONS if psi != "relu"]
    cases = [PipelineCase(*what, fractions, seed) for seed in range(seeds) for what in plan]
    if not quick:
        cases += [
            PipelineCase(50, *_LARGE, "gaussian", "relu", (0.1, 0.3), seed) for seed in range(_LARGE_NETWORKS)
        ]
    question = (
        "A network is trained, kernels first and output second; all its weights are hit; the kernels are recovered, "
        "and the output on the features of the recovered kernels. How often is everything exact?"
    )
    return Study(
        "pipeline", "Both layers: the whole recovery", question, 2, tuple(cases), run, draw, tabulate
    )


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Probability of exactness of kernels, output and both over nm/k and n/p; both by law and activation."""
    small = [record for record in records if record.config["k"] == _SMALL[1]]
    plain = [r for r in small if (r.config["law"], r.config["activation"]) == ("gaussian", "relu")]
    rows = (
        ("nm / k  (n / p is a quarter of it)", [r for r in plain if r.config["m"] == _SMALL[0]], _filled),
        ("n / p  (nm / k = 0.1)", [r for r in plain if r.config["m"] == 1], _crowded),
    )
    if not all(chosen for _, chosen, _ in rows):
        return ()
    figure, axes = panels(len(_NAMES), len(rows), width=270)
    for i, (label, chosen, ratio) in enumerate(rows):
        _draw_shares(axes[i * len(_NAMES) :], label, _cells(chosen, ratio))
    caption = (
        f"Share of networks, ReLU, Gaussian noise. Above: k = {_SMALL[1]}, p = {_SMALL[2]}, m = {_SMALL[0]}. All "
        f"kernels means every one of {_SMALL[2]} at once, which breaks earlier than one kernel does. The output is "
        "recovered on the features of recovered kernels: it fails where they do. Below: n = 10, m = 1, k = 100, fewer "
        "and fewer kernels, so that the output is what breaks."
    )
    first = Picture(
        "pipeline", "Kernels, output, both", caption, figure, "Shares of networks; see the table."
    )
    return (first, _by_kind(small))


def _filled(record: Record) -> float:
    return float(record.config["n"] * record.config["m"] / record.config["k"])


def _crowded(record: Record) -> float:
    return float(record.config["n"] / record.config["p"])


def _draw_shares(axes: Sequence[Axes], label: str, cells: Mapping[tuple[float, float], _Shares]) -> None:
    ratios, levels = sorted({x for x, _ in cells}), sorted({e for _, e in cells})
    for which, (panel, title) in enumerate(zip(axes, _NAMES, strict=False)):
        share = np.array([[cells.get((x, e), (np.nan,) * 4)[which] for e in levels] for x in ratios])
        heat(panel, list(range(len(ratios))), list(range(len(levels))), share)
        for (i, j), value in np.ndenumerate(share):
            colour = "white" if value < 0.6 else "#1d2430"
            panel.text(i, j, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
        panel.set_xticks(range(len(ratios)), [f"{x:.2g}" for x in ratios])
        panel.set_yticks(range(len(levels)), [f"{e:g}" for e in levels])
        panel.set(title=title, xlabel=label, ylabel="ε")


def _by_kind(records: Sequence[Record]) -> Picture:
    figure, axes = panels(2)
    for panel, name, other in zip(axes, ("law", "activation"), ("relu", "gaussian"), strict=True):
        opposite = "activation" if name == "law" else "law"
        chosen = [r for r in records if r.config[opposite] == other and r.config["n"] == 5]
        for i, kind in enumerate(sorted({r.config[name] for r in chosen})):
            cells = _cells([r for r in chosen if r.config[name] == kind], _filled)
            levels = sorted(e for _, e in cells)
            shares = [found[3] for _, found in sorted(cells.items())]
            style: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i], "alpha": 0.85}
            panel.plot(levels, shares, label=kind, **style)
        panel.set(title=f"by {name}", xlabel="ε", ylabel="both certified", ylim=(-0.04, 1.04))
        panel.legend()
    caption = (
        "Share of networks recovered in full, nm/k = 0.1, n/p = 0.025, by the noise's law and by ψ. Uniform and Cauchy "
        "noise, and all ψ, share a curve: the kernels' span knows neither sizes nor ψ."
    )
    words = "Curves of the share of networks recovered in full over ε; see the table."
    return Picture("pipeline-kinds", "Laws and activations", caption, figure, words)


def _cells(records: Iterable[Record], ratio: Callable[[Record], float]) -> dict[tuple[float, float], _Shares]:
    """Share of networks with kernels, output and both exact, and both certified, by (ratio, ε)."""
    gathered: dict[tuple[float, float], list[tuple[bool, bool, bool, bool]]] = defaultdict(list)
    for record in records:
        units = record.config["p"]
        for one in record.results["runs"]:
            exact = one["kernels"] == units
            both = exact and one["output"]
            found = (exact, one["output"], both, both and one["output_certified"])
            gathered[ratio(record), one["fraction"]].append(found)
    return {
        key: (float(shares[0]), float(shares[1]), float(shares[2]), float(shares[3]))
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
