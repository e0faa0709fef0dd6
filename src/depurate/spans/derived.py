"""Classes derived from convolutions and dense layers, taken for those where they compute the same."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from depurate.spans.geometry import (
    ConvolutionGeometry,
    Geometry,
    base_geometry_of,
    geometry_of,
    read_kernels,
)

# Relative error of single precision over the longest kernels; another padding or weight errs by a tenth or more.
_ROUNDING = 1e-3
# Positions that are compared, spread evenly from corner to corner.
_POSITIONS = 512


def geometry_on(module: nn.Module, inputs: Tensor) -> Geometry | None:
    """Return how a module reads patches of some inputs, also where its class is derived from a plain one.

    Several well-known networks pad in a class of their own; others normalise, mask or add to the weight first. Names
    do not tell these apart, so a copy with random numbers for its parameters is shown random numbers of this shape:
    the class counts as plain where y = Wx̃ for patches x̃ with the padding that it names, or with as much as the size
    of y calls for.

    Args:
        module: Any; not changed.
        inputs: What it is shown, the first axis the batch.

    Returns:
        The geometry, of convolutions for inputs of this size only; None where the module is no linear map of patches
        by a weight of its own.

    Example:
        >>> class Same(nn.Conv2d):
        ...     def forward(self, images):
        ...         return super().forward(nn.functional.pad(images, (0, 1, 0, 1)))
        >>> geometry_of(Same(3, 8, 2)), geometry_on(Same(3, 8, 2), torch.zeros(1, 3, 5, 5)).padding
        (None, ((0, 1), (0, 1)))
        >>> class Doubled(nn.Linear):
        ...     def forward(self, features):
        ...         return 2 * super().forward(features)
        >>> geometry_on(Doubled(3, 8), torch.zeros(1, 3))

    Source: our own.
    """
    likely = base_geometry_of(module)
    if likely is None or geometry_of(module) is not None:
        return likely
    tried, shown = _of_random_numbers(module, inputs[:1])
    try:
        with torch.no_grad():
            made = tried.forward(shown)  # not called: the hooks are the network's own
    except (RuntimeError, ValueError, TypeError):
        return None
    if not isinstance(made, Tensor):
        return None
    kernels = read_kernels(tried)
    return next(
        (some for some in _paddings(likely, shown, made) if _explains(some, kernels, shown, made)), None
    )


def _of_random_numbers(module: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy with random parameters, and random inputs: what trained ones may hide, a correction of zero say, shows."""
    generator = torch.Generator().manual_seed(0)
    tried = copy.deepcopy(module).eval()
    with torch.no_grad():
        for parameter in tried.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return tried, torch.randn(inputs.shape, generator=generator).to(inputs)


def _paddings(likely: Geometry, shown: Tensor, made: Tensor) -> Iterator[Geometry]:
    """The padding that the module names, and the least that gives outputs of this size, half of it before."""
    yield likely
    if not isinstance(likely, ConvolutionGeometry) or made.ndim != shown.ndim:
        return
    totals = [
        max(0, (after - 1) * stride + dilation * (kernel - 1) + 1 - before)
        for after, before, stride, dilation, kernel in zip(
            made.shape[2:], shown.shape[2:], likely.stride, likely.dilation, likely.kernel, strict=True
        )
    ]
    yield replace(likely, padding=tuple((total // 2, total - total // 2) for total in totals))


def _explains(geometry: Geometry, kernels: Tensor, shown: Tensor, made: Tensor) -> bool:
    """Whether kernels times patches are what came out."""
    places = geometry.positions(shown)
    if made.numel() != places * kernels.shape[0] * kernels.shape[1]:
        return False
    at = torch.linspace(0, places - 1, min(places, _POSITIONS)).round().long().to(shown.device)[None]
    wanted, found = geometry.outputs(made, at), geometry.patches(shown, at) @ kernels.mT
    return bool((found - wanted).abs().max() <= _ROUNDING * wanted.abs().max())
