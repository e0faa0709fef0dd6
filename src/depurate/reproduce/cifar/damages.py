"""Study: deep networks under natural noise and backdoors, recovered as the paper writes and by `auto`."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import depurate
from depurate.contamination import parse_noise
from depurate.report.formats import percent
from depurate.reproduce.cifar.images import read_cifar, source_of
from depurate.reproduce.cifar.layerwise import recover_layers
from depurate.reproduce.cifar.networks import (
    ATTACKS,
    Suspect,
    digest,
    given_files,
    keep,
    kept_files,
    read_network,
    recipe_of,
    train_suspect,
    trained_words,
)
from depurate.reproduce.figures import COLOURS, panels
from depurate.reproduce.study import Picture, Record, Study, Table
from depurate.zoo import Data, Recipe, accuracy, success

NOISES = {
    "none": "",
    "Gaussian on all": "dense:law=gaussian,scale=0.3",
    "sparse": "sparse:rate=0.05,law=gaussian,scale=3",
    "bit flips": "bitflip:rate=1e-4",
    "8 bits": "rounding:bits=8",
    "4 bits": "rounding:bits=4",
}
"""Natural noise by name, as spec strings; laws in standard deviations of each tensor."""
_METHODS = {"received": "as received", "paper": "paper, as written", "cut": "exact, span cut", "auto": "auto"}
_BENIGN, _TESTED, _BATCH = 500, 2000, 50


@dataclass(frozen=True)
class DamageCase:
    """One network, damaged in one way, recovered by every method.

    Attributes:
        network: `lenet` or `resnet14`.
        attack: `clean`, `badnets` or `blended`.
        noise: A name of `NOISES`.
        recipe: How it is trained, as plain values; empty where it was given.
        given: Digest of the checkpoint; empty where it is trained.
        anchor: Digest of the checkpoint of its initialisation; empty where it is trained.
        data: Which images, by `source_of`.
        benign: Unlabelled test images that recovery sees.
        tested: Other test images that rates are measured on.
        seed: Of everything.
    """

    network: str
    attack: str
    noise: str
    recipe: str
    given: str
    anchor: str
    data: str
    benign: int
    tested: int
    seed: int


@dataclass(frozen=True)
class Places:
    """Where images and networks lie.

    Attributes:
        data: Folder of datasets.
        models: Checkpoints to use instead of training, or None.
        kept: Where networks trained here are kept for other runs, or None.
    """

    data: Path
    models: Path | None
    kept: Path | None


def run(places: Places, quick: bool, case: DamageCase) -> dict[str, Any]:
    """Get the network, damage it, recover it, measure."""
    suspect, data = _suspect(places, recipe_of(case.network, quick=quick), case)
    benign = suspect.kind.normalise(data.test_images[: case.benign])
    test = slice(case.benign, case.benign + case.tested)
    images, labels = data.test_images[test], data.test_labels[test]
    damaged = _damaged(suspect.model, NOISES[case.noise], case.seed)
    rows = [
        {"method": method, **_row(suspect, damaged, method, benign, images, labels, case.seed)}
        for method in _METHODS
    ]
    return {"source": suspect.source, "data": data.source, "rows": rows}


def _suspect(places: Places, recipe: Recipe, case: DamageCase) -> tuple[Suspect, Data]:
    """The network, given, kept from an earlier run or trained now, and test images."""
    testing = case.benign + case.tested
    files = given_files(places.models, case.network, case.attack)
    if files is not None:
        source = f"given, {digest(files[0])}"
        return read_network(files, case.network, case.attack, source), read_cifar(places.data, 0, testing)
    kept = kept_files(places.kept, case.network, case.attack, recipe, case.seed, case.data)
    if kept is not None and kept[0].exists():
        source = trained_words(recipe)
        return read_network(kept, case.network, case.attack, source), read_cifar(places.data, 0, testing)
    data = read_cifar(places.data, recipe.images, testing)
    suspect = train_suspect(data, case.network, case.attack, recipe, case.seed)
    if kept is not None:
        keep(suspect, kept)
    return suspect, data


def _damaged(model: nn.Module, spec: str, seed: int) -> nn.Module:
    if not spec:
        return model
    hit = copy.deepcopy(model)
    values = parse_noise(spec).apply(model.state_dict(), seed=seed, layers="*.weight").values
    hit.load_state_dict(values)
    return hit


def _row(
    suspect: Suspect,
    damaged: nn.Module,
    method: str,
    benign: Tensor,
    images: Tensor,
    labels: Tensor,
    seed: int,
) -> dict[str, Any]:
    started, room, guarantee = time.perf_counter(), "", ""
    model = damaged
    if method == "paper":
        model, spare, layers = recover_layers(damaged, benign.split(_BATCH), suspect.anchor)  # type: ignore[no-untyped-call]
        room = f"{spare} of {layers}"
    elif method != "received":
        way = "exact" if method == "cut" else "auto"
        result = depurate.purify(damaged, benign, anchor=suspect.anchor, method=way, seed=seed)
        model, guarantee = result.model, str(result.record.guarantee)
    seconds = time.perf_counter() - started
    kind, attack = suspect.kind, suspect.attack
    return {
        "accuracy": accuracy(model, kind, images, labels),
        "success": None if attack is None else success(model, kind, attack, images, labels),
        "seconds": seconds if method != "received" else 0.0,
        "unchanged": _same(model, damaged),
        "room": room,
        "guarantee": guarantee,
    }


def _same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def study(places: Places, *, quick: bool, seeds: int) -> Study:
    """LeNet and ResNet-14, clean under every noise, and with two backdoors."""
    networks = ("lenet",) if quick else ("lenet", "resnet14")
    noises = ("none", "sparse") if quick else tuple(NOISES)
    benign, tested = (60, 200) if quick else (_BENIGN, _TESTED)
    cases, data = [], source_of(places.data)
    # Every network once before any of them again: several runs at a time then seldom train the same one.
    attacked = [("none", attack) for attack in (ATTACKS if not quick else ("clean", "badnets"))]
    for seed in range(seeds):
        for noise, attack in [*attacked, *((noise, "clean") for noise in noises if noise != "none")]:
            for name in networks:
                files = given_files(places.models, name, attack)
                recipe = "" if files else str(asdict(recipe_of(name, quick=quick)))
                given, anchor = map(digest, files) if files else ("", "")
                what = name, attack, noise, recipe, given, anchor, data
                cases.append(DamageCase(*what, benign, tested, seed))
    question = (
        "Multi-layer networks under natural noise and with backdoors. What does the paper's layer-wise l1 recovery do "
        "as it is written, what does it do on a span cut off at 99 % of the energy, and what does auto do?"
    )
    measure = partial(run, places, quick)
    return Study("cifar10", "Deep networks", question, 3, tuple(cases), measure, draw, tabulate)


def _effectiveness(before: dict[str, Any], after: dict[str, Any]) -> float | None:
    """DER = [max(0, ΔASR) − max(0, ΔACC) + 1] / 2."""
    if after["success"] is None or after["method"] == "received":
        return None
    gained: float = max(0.0, before["success"] - after["success"])
    lost: float = max(0.0, before["accuracy"] - after["accuracy"])
    return (gained - lost + 1) / 2


def draw(records: Sequence[Record]) -> tuple[Picture, ...]:
    """Accuracy under noise, and accuracy with attack success under backdoors, by method."""
    groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        for row in record.results["rows"]:
            attack = record.config["attack"]
            name = record.config["noise"] if attack == "clean" else attack
            groups.setdefault(record.config["network"], {}).setdefault(name, []).append(row)
    figure, axes = panels(len(groups), width=560, height=300)
    for panel, (network, cells) in zip(axes, groups.items(), strict=True):
        found = {name: cells[name] for name in (*NOISES, *ATTACKS) if name in cells}
        places = np.arange(len(found))
        for i, (method, label) in enumerate(_METHODS.items()):
            rows = [[row for row in cell if row["method"] == method] for cell in found.values()]
            shift = places + 0.2 * (i - 1.5)
            values = [100 * np.mean([row["accuracy"] for row in cell]) for cell in rows]
            panel.bar(shift, values, 0.18, color=COLOURS[i], label=label)
            attacked = [
                (x, cell) for x, cell in zip(shift, rows, strict=True) if cell[0]["success"] is not None
            ]
            rates = [100 * np.mean([row["success"] for row in cell]) for _, cell in attacked]
            panel.plot(
                [x for x, _ in attacked], rates, "kx", ms=7, label="attack success" if i == 3 else None
            )
        panel.set_xticks(places, list(found), rotation=20)
        panel.set(title=network, ylabel="accuracy, %", ylim=(0, 103))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=8)
    caption = (
        "Bars: accuracy on clean images; crosses: success of the backdoor. The first groups are clean networks under "
        "natural noise. As written, the paper's recovery changes nothing where benign patches span everything, which "
        "they do in every convolution of a real network: l1 fits the contamination as well as the weights. "
        "Span cut is depurate's exact, which also fills entries that are plainly damaged. "
        "Dense layers have room only because benign images are few; updates learnt from others are not in their span."
    )
    return (Picture("cifar10", "Noise and backdoors", caption, figure, "Bars; see the table."),)


def tabulate(records: Sequence[Record]) -> tuple[Table, ...]:
    """Every run."""
    rows = []
    for record in records:
        before = next(row for row in record.results["rows"] if row["method"] == "received")
        for row in record.results["rows"]:
            score = _effectiveness(before, row)
            rows.append(
                (
                    record.config["network"],
                    record.config["attack"],
                    record.config["noise"],
                    _METHODS[row["method"]],
                    percent(row["accuracy"]),
                    percent(row["success"]),
                    percent(score),
                    f"{row['seconds']:.0f}",
                    "yes" if row["unchanged"] and row["method"] != "received" else "",
                    row["room"],
                    row["guarantee"],
                )
            )
    columns = (
        "network",
        "trained",
        "noise",
        "method",
        "ACC",
        "ASR",
        "DER",
        "seconds",
        "unchanged",
        "layers with room",
        "guarantee",
    )
    sources = {
        f"{record.config['network']} {record.config['attack']}: {record.results['source']}"
        for record in records
    }
    images = {record.results["data"] for record in records}
    caption = f"{', '.join(sorted(images))}. {'; '.join(sorted(sources))}. Unchanged: returned bit for bit."
    return (Table("All runs", columns, tuple(rows), caption),)
