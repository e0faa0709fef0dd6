"""Synthetic records of purifications, as varied as real ones."""

from __future__ import annotations

import math
import random

from depurate.recovery.records import (
    Agreement,
    Guarantee,
    Histogram,
    LayerRecord,
    PurifyRecord,
    Spectrum,
    Trial,
)

VERSIONS = {"depurate": "0.1.0", "torch": "2.5.0", "python": "3.11.9"}


def layer(name: str = "conv1", **changes: object) -> LayerRecord:
    """A plain soft-recovered convolution, with the given fields replaced."""
    values: dict[str, object] = {
        "name": name,
        "kind": "Conv2d",
        "fan_in": 75,
        "kernels": 32,
        "patches": 4000,
        "rank": 75,
        "method": "soft",
        "strength": 0.1,
        "nonfinite": 0,
        "contaminated": 0,
        "certified": 0,
        "gap": None,
        "margin": None,
        "moved": 0.12,
        "off_span": 0.3,
        "guarantee": Guarantee.APPROXIMATE,
    }
    return LayerRecord(**(values | changes))  # type: ignore[arg-type]


def spectrum(bins: int, spread: float, seed: int = 0, directions: int = 0) -> Spectrum:
    """A span that decays, a suspect's update that decays less, a purified one in between."""
    draw = random.Random(seed)

    def shares(decay: float) -> tuple[float, ...]:
        raw = [math.exp(-decay * i / bins) * draw.uniform(0.5, 1.5) for i in range(bins)]
        return tuple(value / sum(raw) for value in raw)

    return Spectrum(shares(14.0), shares(14.0 * spread), shares(9.0), directions)


def histogram(entries: int, centre: float, seed: int = 0) -> Histogram:
    """Changes that are log-normal around `centre`."""
    draw = random.Random(seed)
    edges = tuple(10.0 ** (-8 + 0.25 * i) for i in range(41))
    counts = [0] * 40
    for _ in range(min(entries, 20_000)):
        place = round((math.log10(centre) + draw.gauss(0, 0.6) + 8) * 4)
        counts[min(max(place, 0), 39)] += 1
    return Histogram(edges, tuple(counts), entries // 3)


def held(agreement: float, images: int = 100) -> Agreement:
    """An agreement with a plausible interval."""
    half = 1.96 * math.sqrt(agreement * (1 - agreement) / images) + 0.01
    return Agreement(
        images, agreement, max(agreement - half, 0.0), min(agreement + half, 1.0), 0.4 * (1 - agreement)
    )


def certified() -> PurifyRecord:
    """Two layers, sparse noise, every kernel certified."""
    common = {"method": "exact", "strength": None, "gap": 2.3e-13, "guarantee": Guarantee.EXACT}
    layers = (
        layer("hidden", kind="Linear", fan_in=400, kernels=500, patches=40, rank=40, contaminated=20_113,
              certified=500, margin=0.81, moved=0.42, off_span=0.97, spectrum=spectrum(400, 0.05),
              residuals=histogram(20_113, 1.0), **common),
        layer("head", kind="Linear", fan_in=500, kernels=1, patches=10, rank=10, contaminated=48, certified=1,
              margin=0.55, moved=0.38, off_span=0.9, residuals=histogram(48, 1.0), **common),
    )  # fmt: skip
    return PurifyRecord(
        "exact", Guarantee.EXACT, "given", 10, layers, held(1.0, 40), versions=VERSIONS, seconds=1.84
    )


def backdoored() -> PurifyRecord:
    """Seventeen layers with BatchNorm, soft recovery, strengths tried."""
    layers = []
    for i in range(9):
        fan_in = 27 if i == 0 else 144 * 2 ** (i // 3)
        bins = -(-fan_in // -(-fan_in // 512))
        layers.append(
            layer(f"stage{i // 3}.block{i % 3}.conv", fan_in=fan_in, kernels=16 * 2 ** (i // 3), rank=fan_in,
                  moved=0.05 + 0.04 * i, off_span=0.1 + 0.07 * i, spectrum=spectrum(bins, 0.4, i, fan_in),
                  residuals=histogram(fan_in * 64, 0.003 * (i + 1), i), seconds=0.4)
        )  # fmt: skip
        if i < 8:
            layers.append(
                layer(f"stage{i // 3}.block{i % 3}.bn", kind="BatchNorm2d", fan_in=2, rank=2,
                      kernels=16 * 2 ** (i // 3), method="statistics", strength=None, moved=0.03,
                      off_span=None)
            )  # fmt: skip
    trials = tuple(
        Trial(strength, held(share), strength == 0.1)
        for strength, share in (
            (0.003, 0.995),
            (0.01, 0.99),
            (0.03, 0.985),
            (0.1, 0.97),
            (0.3, 0.93),
            (1.0, 0.78),
        )
    )
    return PurifyRecord(
        "auto",
        Guarantee.APPROXIMATE,
        "given",
        400,
        tuple(layers),
        held(0.97),
        trials,
        versions=VERSIONS,
        seconds=14.2,
    )


def troubled() -> PurifyRecord:
    """Warnings, NaN entries, unmeasured values, parameters nothing covers, one layer lost."""
    layers = (
        layer("features.0", nonfinite=12, contaminated=240, moved=float("nan"), off_span=None,
              method="robust", notes=("12 entries arrived as NaN or infinity and were imputed.",),
              residuals=histogram(240, 100.0)),
        layer("features.3", fan_in=801, kernels=64, rank=120, method="exact", strength=None,
              contaminated=4031, certified=41, gap=3.1e-9, margin=0.998, moved=0.61, off_span=0.44,
              guarantee=Guarantee.PARTIAL,
              notes=("23 kernels: the noise overlaps the span, so the certificate does not hold.",),
              spectrum=spectrum(401, 0.2, directions=801), residuals=histogram(4031, 0.2)),
        layer("features.6", moved=0.0, off_span=0.01, method="none", guarantee=Guarantee.UNCHANGED),
        layer("classifier", kind="Linear", fan_in=129, kernels=10, patches=90, rank=90, nonfinite=900,
              contaminated=900, method="none", strength=None, moved=0.0, off_span=float("nan"),
              guarantee=Guarantee.NONE,
              notes=("Seven of ten kernels are NaN throughout; nothing remains to fit.",)),
    )  # fmt: skip
    return PurifyRecord(
        "auto",
        Guarantee.NONE,
        "unknown (zero)",
        90,
        layers,
        None,
        untouched=("attention.in_proj_weight", "attention.in_proj_bias", "position_embedding"),
        warnings=(
            "The benign images look unlike the training data: the suspect is sure of 31 % of them only.",
            "Few images: the classifier's span (90 of 129) is limited by the images, not by the network.",
        ),
        versions=VERSIONS,
        seconds=75.0,
    )


def deep(number: int = 160) -> PurifyRecord:
    """Many layers with long names and very different sizes."""
    draw = random.Random(7)
    layers = tuple(
        layer(f"layer{1 + i // 40}.{i % 40 // 4}.block.{i % 4}.downsample.conv2d", fan_in=1152, kernels=256,
              rank=1152, contaminated=draw.choice((0, 0, 0, 31, 2900)), moved=10 ** draw.uniform(-4, -0.3),
              off_span=draw.random(), spectrum=spectrum(384, 0.5, i, 1152), residuals=histogram(2000, 0.01, i))
        for i in range(number)
    )  # fmt: skip
    return PurifyRecord(
        "soft",
        Guarantee.APPROXIMATE,
        "unknown (zero)",
        500,
        layers,
        held(0.981),
        versions=VERSIONS,
        seconds=312.0,
    )
