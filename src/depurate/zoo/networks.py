"""Networks of the zoo by name: how to build one, and the input normalisation it is trained with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from depurate.errors import InputError
from depurate.zoo.architectures import lenet, preact_resnet18, resnet14


@dataclass(frozen=True)
class Network:
    """An architecture and what it expects of its inputs.

    Attributes:
        name: As in the zoo's records and on the command line.
        build: Makes a freshly initialised network with 10 outputs.
        build_narrow: Makes the same with a few channels a layer and one output (for subnet replacement).
        mean: Subtracted from pixels in [0, 1].
        deviation: What the difference is divided by.
    """

    name: str
    build: Callable[[], nn.Module]
    build_narrow: Callable[[], nn.Module]
    mean: float
    deviation: float

    def check_takes(self, dataset: str) -> None:
        """Refuse a dataset whose images have other channels.

        Raises:
            InputError: Naming both.

        >>> network("lenet").check_takes("cifar10")
        Traceback (most recent call last):
        depurate.errors.InputError: lenet does not take the images of cifar10
        """
        if (self.name == "lenet") != (dataset == "mnist"):
            raise InputError(f"{self.name} does not take the images of {dataset}")

    def normalise(self, images: Tensor) -> Tensor:
        """(images − mean) / deviation, for pixels in [0, 1] of any shape."""
        return (images - self.mean) / self.deviation

    def initialise(self, seed: int) -> nn.Module:
        """Build with weights drawn from a seed, leaving the global generator as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.build()


NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network("lenet", lenet, lambda: lenet((2, 4, 4), 1), 0.0, 1.0),
        Network("resnet14", resnet14, lambda: resnet14(2, 1), 0.47, 0.25),
        Network("preact_resnet18", preact_resnet18, lambda: preact_resnet18(2, 1), 0.47, 0.25),
    )
}
"""Every network of the zoo."""


def network(name: str) -> Network:
    """Find a network of the zoo.

    Args:
        name: `lenet`, `resnet14` or `preact_resnet18`.

    Returns:
        How to build it, and its input normalisation.

    Raises:
        InputError: There is none of that name.

    >>> network("resnet14").mean, network("resnet14").deviation
    (0.47, 0.25)
    """
    if name not in NETWORKS:
        raise InputError(f"network {name!r}: the zoo has {', '.join(NETWORKS)}")
    return NETWORKS[name]
