"""Which layers a network has and how they follow each other, read off one forward pass over zeros."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BATCH_NORM = nn.BatchNorm2d


@dataclass(frozen=True)
class Layer:
    """A convolution or dense layer in the order in which an input reaches it.

    Attributes:
        name: Module name.
        norm: Name of the BatchNorm that takes its output as it is, or None.
        size: Rows of its output (1 for a dense layer).
    """

    name: str
    norm: str | None
    size: int


def layers_of(model: nn.Module, shape: torch.Size) -> tuple[Layer, ...]:
    """List convolutions and dense layers in forward order.

    Args:
        model: The network.
        shape: Of a batch of images; only (c, h, w) is looked at.

    Returns:
        One entry a layer, each at its first use; the last is the classifier.
    """
    outputs: dict[str, Tensor] = {}
    norms: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if isinstance(module, BATCH_NORM):
                norms.setdefault(name, inputs[0])
            else:
                outputs.setdefault(name, output)

        return hook

    kinds = (nn.Conv2d, nn.Linear, BATCH_NORM)
    _watch(model, shape, {name: m for name, m in model.named_modules() if isinstance(m, kinds)}, note)
    followed = {id(taken): name for name, taken in norms.items()}
    return tuple(
        Layer(name, followed.get(id(output)), output.shape[2] if output.ndim == 4 else 1)
        for name, output in outputs.items()
    )


def stage_ends(model: nn.Module, shape: torch.Size) -> tuple[str, ...]:
    """Name the module whose output is the last of each spatial size: where the stages of a network end.

    Args:
        model: The network.
        shape: Of a batch of images.

    Returns:
        Module names in forward order.
    """
    ends: dict[int, str] = {}

    def note(name: str, module: nn.Module) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] > 1:
                ends.pop(output.shape[2], None)
                ends[output.shape[2]] = name

        return hook

    _watch(model, shape, {name: module for name, module in model.named_modules() if name}, note)
    return tuple(ends.values())


def _watch(
    model: nn.Module,
    shape: torch.Size,
    modules: dict[str, nn.Module],
    note: Callable[[str, nn.Module], Callable[..., None]],
) -> None:
    was_training = model.training
    model.eval()
    handles = [module.register_forward_hook(note(name, module)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            model(next(model.parameters()).new_zeros(1, *shape[1:]))
    finally:
        for handle in handles:
            handle.remove()
        model.train(was_training)
