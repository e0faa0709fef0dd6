"""Study: benign images that are the training images, some of them, other digits, or not digits at all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from depurate.contamination import Gaussian
from depurate.paper import contaminate_network, recover
from depurate.reproduce.figures import COLOURS, panels
from depurate.reproduce.mnist.digits import Task, account, draw_images, train_task
from depurate.reproduce.seeds import stream
from depurate.reproduce.study import Picture, Record, Study, Table

_TRAINED, _FRACTION = 20, 0.1
_KINDS = {
    "training": "the training images",
    "subset": "half of them",
    "mnist": "20 other digits",
    "mnist-many": "250 other digits",
    "fashion": "20 pieces of clothing",
    "fashion-many": "250 pieces of clothing",
}


@dataclass(frozen=True)
class BenignCase:
    """A network trained on 20 digits, hit at ε = 0.1 and recovered with images of one kind.

    Attributes:
        kind: A key of the kinds.
        seed: Of images, initialisation and noise.
    """

    kind: str
    seed: int


def run(folder: Path, case: BenignCase) -> dict[str, Any]:
    """Train, contaminate, recover with the benign images of this kind."""
    task = train_task(folder, _TRAINED, case.seed)
    benign = _benign(folder, task, case)
    suspect = contaminate_network(task.trained.final, _FRACTION, Gaussian(), seed=stream(case.seed, "noise"))
    recovery = recover(suspect, task.trained.initial, benign)
    return {"images": len(benign), **account(task, suspect, recovery, benign)}


def _benign(folder: Path, task: Task, case: BenignCase) -> Tensor:
    if case.kind == "training":
        return task.patches
    if case.kind == "subset":
        return task.patches[: _TRAINED // 2]
    name = "MNIST" if case.kind.startswith("mnist") else "FashionMNIST"
    count = 250 if case.kind.endswith("many") else _TRAINED
    return draw_images(name, folder, False, count, case.seed)[0]


def study(folder: Path, *, quick: bool, seeds: int) -> Study:
    """Six kinds of benign images."""
    kinds = ("training", "mnist", "fashion") if quick else tuple(_KINDS)
    cases = tuple(BenignCase(kind, seed) for seed in range(seeds) for kind in kinds)
    question = (
        "Exact recovery needs the images that the network was trained on. What happens with fewer, with others, with "
        "images of the wrong kind, and which guarantee holds?"
    )
    title = "Benign images of other kinds"
    return Study("benign", title, question, 3, cases, partial(run, folder), draw, tabulate)


def _groups(records: Sequence[Record]) -> dict[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        groups[record.config["kind"]].append(dict(record.results))
    return {kind: groups[kind] for kind in _KINDS if kind in groups}


def _guarantee(found: Sequence[dict[str, Any]]) -> str:
    """The strongest guarantee that held for every network; none where a certificate was false."""
    if any(one["false"] for one in found):
        return "none, false ones"
    if all(one["certified"] == 1 and one["output_certified"] for one in found):
        return "exact"
    if all(one["unchanged"] for one in found):
        return "unchanged"
    return "none" if all(one["certified"] == 0 for one in found) else "partial"


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Accuracy and kernel error for each kind."""
    groups = _groups(records)
    figure, axes = panels(2, width=430)
    places = np.arange(len(groups))
    for i, when in enumerate(("clean", "before", "after")):
        means = [100 * np.mean([one[f"accuracy_{when}"] for one in found]) for found in groups.values()]
        axes[0].barh(places + 0.27 * (i - 1), means, 0.25, color=COLOURS[(2, 1, 0)[i]], label=when)
    for i, (name, label) in enumerate((("kernel_error_before", "before"), ("kernel_error", "after"))):
        means = [max(np.mean([one[name] for one in found]), 1e-17) for found in groups.values()]
        axes[1].barh(places + 0.2 * (2 * i - 1), means, 0.36, color=COLOURS[1 - i], label=label)
    labels = [f"{_KINDS[kind]}\n({_guarantee(found)})" for kind, found in groups.items()]
    axes[0].set_yticks(places, labels)
    axes[1].set_yticks(places, ["" for _ in groups])
    axes[0].set(title="accuracy, %", xlim=(40, 100))
    axes[1].set(title="relative error of a kernel", xscale="log")
    for panel in axes:
        panel.invert_yaxis()
    axes[0].legend(fontsize=8)
    caption = (
        f"Networks trained on {_TRAINED} digits, ε = {_FRACTION:g}, Gaussian noise of scale 1. In brackets the "
        "guarantee: exact where everything is certified, none where no kernel is. Images not trained on span "
        "other directions: the update lies outside, and what comes back is a projection. Certificates can even be "
        "false then: a kernel that one stroke of one digit moved has an update on few pixels, which looks like sparse "
        "noise on a kernel that never moved. Those under half of the images are of kernels that only these moved."
    )
    words = "; ".join(f"{_KINDS[kind]}: {_guarantee(found)}" for kind, found in groups.items())
    return (Picture("benign", "Which images, which guarantee", caption, figure, words),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Means over seeds."""
    rows = []
    for kind, found in _groups(records).items():
        accuracies = [
            f"{100 * np.mean([one[f'accuracy_{when}'] for one in found]):.1f}"
            for when in ("clean", "before", "after")
        ]
        means = {
            name: float(np.mean([one[name] for one in found]))
            for name in ("rank", "lit", "certified", "kernel_error_before", "kernel_error", "output_error")
        }
        errors = [f"{means[name]:.1e}" for name in ("kernel_error_before", "kernel_error", "output_error")]
        span = f"{means['rank']:.0f} / {means['lit']:.0f}"
        share, false = f"{means['certified']:.3f}", str(sum(one["false"] for one in found))
        rows.append((_KINDS[kind], _guarantee(found), span, *accuracies, *errors, share, false))
    columns = (
        "benign images",
        "guarantee",
        "rank / lit pixels",
        "clean",
        "before",
        "after",
        "W before",
        "W after",
        "β after",
        "certified",
        "false",
    )
    return (Table("Guarantees by kind of image", columns, tuple(rows)),)
