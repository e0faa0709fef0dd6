"""Deep networks on CIFAR-10 under natural noise and backdoors."""

from pathlib import Path

from depurate.reproduce.cifar import damages
from depurate.reproduce.study import Study


def studies(
    folder: Path, models: Path | None, kept: Path | None, *, quick: bool, seeds: int | None
) -> tuple[Study, ...]:
    """The study of deep networks.

    Args:
        folder: Where CIFAR-10 lies.
        models: Folder of checkpoints to use instead of training, or None.
        kept: Folder for networks trained here, so that each is trained once, or None.
        quick: One small network, trained for seconds.
        seeds: Networks a cell; default 1.
    """
    return (damages.study(damages.Places(folder, models, kept), quick=quick, seeds=seeds or 1),)
