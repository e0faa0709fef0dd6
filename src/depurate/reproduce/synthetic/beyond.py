"""Study: past the threshold of l1, by reweighting each kernel alone and by recovering all of them in turn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from depurate.paper import contaminate_network, l1_threshold, recover_alternating, undo
from depurate.reproduce.figures import COLOURS, MARKERS, panels
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import Shape, trained_network
from depurate.reproduce.synthetic.noise import LAWS
from depurate.reproduce.synthetic.transition import EXACT

_INPUTS, _FRACTIONS = 10, tuple(round(0.05 * step, 2) for step in range(1, 16))
_WAYS = {"l1": "l1 (the paper)", "reweighted": "reweighted l1", "alternating": "in turn"}
_REWEIGHT, _NETWORKS = 4, 10


@dataclass(frozen=True)
class BeyondCase:
    """One trained network, its kernels recovered in three ways at several ε.

    Attributes:
        k: Numbers a kernel has.
        p: Kernels.
        ratio: nm/k, with n = 10 inputs.
        scheme: Of training.
        law: Of the noise.
        fractions: ε.
        seed: Of everything.
    """

    k: int
    p: int
    ratio: float
    scheme: str
    law: str
    fractions: tuple[float, ...]
    seed: int


def run(case: BeyondCase) -> dict[str, Any]:
    """Count kernels that each way recovers exactly, and certifies, at every ε."""
    shape = Shape(_INPUTS, round(case.ratio * case.k / _INPUTS), case.k, case.p)
    trained, patches = trained_network(shape, case.seed, scheme=case.scheme)
    design, clean = patches.flatten(0, 1).T, trained.final.kernels
    anchor = trained.initial.kernels.T
    found = []
    for fraction in case.fractions:
        seed = stream(case.seed, f"noise {fraction}")
        hit = contaminate_network(trained.final, fraction, LAWS[case.law], seed=seed)
        for way in _WAYS:
            if way == "alternating":
                recovery = recover_alternating(hit, trained.initial, patches)
                kernels, certified = recovery.network.kernels, recovery.kernels_certified
            else:
                times = _REWEIGHT if way == "reweighted" else 0
                alone = undo(design, hit.kernels.T, anchor, reweight=times)
                kernels, certified = alone.weights.T, alone.certified
            exact = (kernels - clean).norm(dim=1) <= EXACT * clean.norm(dim=1)
            counts = {"exact": int(exact.sum()), "certified": int((certified & exact).sum())}
            found.append(
                {"fraction": fraction, "way": way, **counts, "false": int((certified & ~exact).sum())}
            )
    return {"runs": found}


def study(*, quick: bool, seeds: int) -> Study:
    """Spans of 20 to 80 % of the fan-in, k = 100."""
    ratios = (0.4,) if quick else (0.2, 0.4, 0.6, 0.8)
    fractions = (0.2, 0.4, 0.6) if quick else _FRACTIONS
    cases = tuple(
        BeyondCase(100, 60, ratio, "joint", "gaussian", _near(fractions, ratio), seed)
        for seed in range(min(seeds, _NETWORKS))
        for ratio in ratios
    )
    question = (
        "Reweighted l1 uses that noise is larger than what is left of the update. Recovery in turn uses that gradient "
        "descent moves all kernels by the same n numbers, as long as few slopes of ψ change. How far past the "
        "threshold of l1 do they reach? Both layers are trained at once here."
    )
    return Study("beyond", "Past the threshold of l1", question, 2, cases, run, draw, tabulate)


def _near(fractions: tuple[float, ...], ratio: float) -> tuple[float, ...]:
    """ε from where l1 still gives everything back to where counting forbids it."""
    return tuple(e for e in fractions if l1_threshold(ratio) - 0.12 < e < 1.06 - ratio)


def _shares(records: Sequence[Record], what: str) -> dict[tuple[float, str], dict[float, float]]:
    gathered: dict[tuple[float, str], dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for one in record.results["runs"]:
            cell = gathered[record.config["ratio"], one["way"]]
            cell[one["fraction"]].append(one[what] / record.config["p"])
    return {
        key: {fraction: float(np.mean(values)) for fraction, values in sorted(cell.items())}
        for key, cell in gathered.items()
    }


def _half(shares: dict[float, float]) -> float:
    levels, values = [0.0, *shares], [1.0, *shares.values()]
    for i in range(1, len(values)):
        if values[i] <= 0.5:
            rise = (values[i - 1] - 0.5) / (values[i - 1] - values[i])
            return levels[i - 1] + (levels[i] - levels[i - 1]) * rise
    return levels[-1]


def _level(shares: dict[float, float]) -> str:
    """The level of one half in words: a bound where the last ε tried still gives more than half."""
    return f"{'at least ' if min(shares.values()) > 0.5 else ''}{_half(shares):.3f}"


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """The ε at which half the kernels are exact, over nm/k, for the three ways."""
    shares = _shares(records, "exact")
    ratios = sorted({ratio for ratio, _ in shares})
    if not ratios:
        return ()
    figure, axes = panels(1 + min(3, len(ratios)))
    fine = np.linspace(0.02, 0.95, 100)
    axes[0].plot(fine, [l1_threshold(r) for r in fine], color=COLOURS[0], lw=1.5, label="theory of l1")
    axes[0].plot(fine, 1 - fine, color="#8a8f98", ls="--", label="counting, 1 − nm/k")
    for i, (way, label) in enumerate(_WAYS.items()):
        style: dict[str, Any] = {"color": COLOURS[i], "marker": MARKERS[i]}
        axes[0].plot(ratios, [_half(shares[r, way]) for r in ratios], ls="none", label=label, **style)
        for panel, ratio in zip(axes[1:], ratios, strict=False):
            panel.plot(list(shares[ratio, way]), list(shares[ratio, way].values()), label=label, **style)
            panel.set(title=f"nm / k = {ratio:g}", xlabel="ε", ylabel="kernels exact", ylim=(-0.04, 1.04))
    axes[0].set(title="half of the kernels", xlabel="nm / k", ylabel="ε", ylim=(0, 1))
    axes[0].legend(fontsize=8)
    caption = (
        "Left: the ε at which half the kernels are exact, with the threshold of l1 and the bound 1 − nm/k, past which "
        "fewer entries are left intact than there are coefficients, so that nothing can be certified. Right: shares "
        "of exact kernels over ε. k = 100, p = 60, n = 10, Gaussian noise, both layers trained at once."
    )
    words = "; ".join(
        f"nm/k {ratio:g}: "
        + ", ".join(f"{label} {_half(shares[ratio, way]):.2f}" for way, label in _WAYS.items())
        for ratio in ratios
    )
    return (Picture("beyond", "Further than l1", caption, figure, words),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Half levels, and by how much each way moves them."""
    exact, certified = _shares(records, "exact"), _shares(records, "certified")
    rows = []
    for ratio, way in exact:
        false = sum(
            one["false"]
            for record in records
            if record.config["ratio"] == ratio
            for one in record.results["runs"]
            if one["way"] == way
        )
        half, plain = _half(exact[ratio, way]), _half(exact[ratio, "l1"])
        levels = (_level(exact[ratio, way]), _level(certified[ratio, way]))
        numbers = (*levels, f"{half - plain:+.3f}", str(false))
        rows.append((_WAYS[way], f"{ratio:g}", *numbers))
    columns = ("way", "nm/k", "ε exact", "ε certified", "moved by", "false")
    caption = "ε at which half the kernels are exact, and certified. False: certificates of wrong kernels."
    return (Table("How far each way reaches", columns, tuple(rows), caption),)
