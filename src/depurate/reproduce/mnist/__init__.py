"""The paper's network on real digits."""

from pathlib import Path

from depurate.reproduce.mnist import benign, magnitudes, spans
from depurate.reproduce.study import Study

FULL_SEEDS, QUICK_SEEDS = 5, 1


def studies(folder: Path, *, quick: bool, seeds: int | None) -> tuple[Study, ...]:
    """All studies on MNIST.

    Args:
        folder: Where torchvision keeps MNIST and FashionMNIST.
        quick: Fewer sizes, for continuous integration.
        seeds: Networks a cell; default 5, with `quick` 1.
    """
    count = seeds or (QUICK_SEEDS if quick else FULL_SEEDS)
    return tuple(module.study(folder, quick=quick, seeds=count) for module in (spans, magnitudes, benign))
