"""Study: what is lost of the output when both layers are trained at once, and what the path's features win back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from depurate.contamination import Gaussian
from depurate.paper import contaminate_network, recover, recover_alternating, relative_errors
from depurate.reproduce.figures import COLOURS, MARKERS, panels
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.reproduce.synthetic.networks import Shape, trained_network

_FRACTION, _NETWORKS = 0.2, 5
_KINDS = {
    ("sequential", "output_error"): "one layer after the other, the paper's recovery",
    ("joint", "output_error"): "both at once, the paper's recovery",
    ("joint", "alternating_error"): "both at once, in turn",
}


@dataclass(frozen=True)
class JointCase:
    """One network of n = 10, m = 2, k = 100 trained by one scheme and hit at ε = 0.2.

    Attributes:
        p: Kernels: the more, the less each moves.
        scale: Of the targets: the larger, the further all move.
        scheme: `sequential` or `joint`.
        seed: Of everything.
    """

    p: int
    scale: float
    scheme: str
    seed: int


def run(case: JointCase) -> dict[str, Any]:
    """Recover as the paper does and in turn; measure how far the features had moved."""
    trained, patches = trained_network(
        Shape(10, 2, 100, case.p), case.seed, scheme=case.scheme, scale=case.scale
    )
    before, after = trained.initial.features(patches), trained.final.features(patches)
    update = trained.final.output - trained.initial.output
    outside = update - after.T @ torch.linalg.lstsq(after.T, update[:, None]).solution[:, 0]
    hit = contaminate_network(trained.final, _FRACTION, Gaussian(), seed=stream(case.seed, "noise"))
    plain = recover(hit, trained.initial, patches)
    turn = recover_alternating(hit, trained.initial, patches)
    turn_error = (turn.network.output - trained.final.output).norm() / trained.final.output.norm()
    errors = relative_errors(plain, trained.final)
    return {
        "moved": float((after - before).norm() / before.norm()),
        "outside": float(outside.norm() / update.norm()),
        "update": float(update.norm() / trained.final.output.norm()),
        "worst_kernel": float(errors.kernels.max()),
        "output_error": errors.output,
        "output_certified": plain.output_certified,
        "alternating_error": float(turn_error),
        "alternating_certified": turn.output_certified,
        "alternating_span": turn.output_span,
        "received_error": float((hit.output - trained.final.output).norm() / trained.final.output.norm()),
    }


def study(*, quick: bool, seeds: int) -> Study:
    """Widths and target scales that move the features by a thousandth to more than their size."""
    widths = (100, 400) if quick else (100, 200, 400, 800, 1600)
    scales = (1.0, 8.0) if quick else (0.5, 2.0, 8.0)
    cases = tuple(
        JointCase(p, scale, scheme, seed)
        for seed in range(min(seeds, 2 if quick else _NETWORKS))
        for p in widths
        for scale in scales
        for scheme in ("sequential", "joint")
    )
    question = (
        "When both layers are trained at once, the output's update is a sum of features along the way, not of the "
        "features at its end. How does the error of the recovered output grow with how far the features moved?"
    )
    title = "Training both layers at once"
    return Study("joint", title, question, 2, cases, run, draw, tabulate)


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Error of the output over the movement of the features."""
    figure, axes = panels(2, width=420, height=300)
    for i, ((scheme, name), label) in enumerate(_KINDS.items()):
        chosen = [record.results for record in records if record.config["scheme"] == scheme]
        moved = [one["moved"] for one in chosen]
        style: dict[str, Any] = {
            "color": COLOURS[i],
            "marker": MARKERS[i],
            "ls": "none",
            "ms": 4,
            "alpha": 0.7,
        }
        axes[0].plot(moved, [max(one[name], 1e-17) for one in chosen], label=label, **style)
        if name == "output_error":
            shares = [max(one["outside"], 1e-16) for one in chosen]
            axes[1].plot(moved, shares, label=scheme, **style)
    for panel in axes:
        panel.set(xscale="log", yscale="log", xlabel="‖Φ(Ŵ) − Φ(W(0))‖ / ‖Φ(W(0))‖")
        panel.legend()
    axes[0].set(title="error of the recovered output", ylabel="‖β̃ − β̂‖ / ‖β̂‖")
    axes[1].set(title="update outside the span of Φ(Ŵ)", ylabel="share of ‖β̂ − β(0)‖")
    caption = (
        "Each point is a network (n = 10, m = 2, k = 100, p from 100 to 1,600, three scales of targets), ε = 0.2. "
        "Trained one after the other the output is exact however far the features moved, unless a kernel is lost. "
        "Trained at once, its error grows with their movement; features of both ends of the path explain most of that."
    )
    words = "; ".join(_line(records, *kind) for kind in _KINDS)
    return (Picture("joint", "Error against movement", caption, figure, words),)


def _line(records: Sequence[Record], scheme: str, name: str) -> str:
    chosen = [record.results for record in records if record.config["scheme"] == scheme]
    low, high = min(one["moved"] for one in chosen), max(one["moved"] for one in chosen)
    middle = np.median([one[name] for one in chosen])
    return f"{_KINDS[scheme, name]}: features moved by {low:.1e} to {high:.1e}, median error {middle:.1e}"


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Medians over seeds."""
    rows = []
    keys = sorted({(r.config["scheme"], r.config["p"], r.config["scale"]) for r in records})
    for scheme, p, scale in keys:
        chosen = [
            r.results
            for r in records
            if (r.config["scheme"], r.config["p"], r.config["scale"]) == (scheme, p, scale)
        ]
        names = ("moved", "outside", "received_error", "output_error", "alternating_error")
        medians = tuple(f"{np.median([one[name] for one in chosen]):.1e}" for name in names)
        certified = (
            sum(one["output_certified"] for one in chosen),
            sum(one["alternating_certified"] for one in chosen),
        )
        rows.append(
            (scheme, str(p), f"{scale:g}", *medians, f"{certified[0]}, {certified[1]} of {len(chosen)}")
        )
    columns = ("trained", "p", "targets", "moved", "outside", "received", "paper", "in turn", "certified")
    caption = (
        "Medians over seeds. Moved: of the features. Outside: share of the output's update outside the features at "
        "the end. Received, paper, in turn: relative error of the output as received and after either recovery."
    )
    return (Table("Training schemes", columns, tuple(rows), caption),)
