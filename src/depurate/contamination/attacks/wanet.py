"""WaNet: images bent by a small smooth warping field, with bent images of other fields as a decoy."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from depurate.contamination.attacks.poisoning import check_pairs, choose, relabel
from depurate.errors import InputError


@dataclass(frozen=True)
class WaNet:
    """Sample images at φ(x) = clip(x + s·field/size), the field a k×k grid of random numbers, upsampled.

    The grid is scaled so that its mean absolute value is 1; coordinates run from −1 to 1, so that its points move by
    s/2 pixels on average, and those between them by less: 0.38 s over all for k = 4. The noise mode bends other images
    by the field plus random offsets of up to one such unit and leaves their labels alone, so that only this very field
    becomes the trigger.

    Attributes:
        grid: k, the control points along each side.
        strength: s.
        noise: Images bent in noise mode for each poisoned one.
        field: Seed of the field.
        target: The class that bent images are labelled with.

    >>> WaNet().displacement(28, 28).abs().mean().item() > 0
    True

    Source: Nguyen & Tran, WaNet: Imperceptible Warping-based Backdoor Attack, arXiv 2102.10369, equations 4 to 6
    (k = 4, s = 0.5, twice as many noise images as poisoned ones).
    """

    grid: int = 4
    strength: float = 0.5
    noise: float = 2.0
    field: int = 0
    target: int = 0

    def __post_init__(self) -> None:
        if self.grid < 2 or self.strength <= 0 or self.noise < 0:
            raise InputError(f"{self!r}: grid must be 2 or more, strength positive, noise 0 or more")

    def displacement(self, height: int, width: int) -> Tensor:
        """Give how far each pixel's sampling point is moved, in pixels.

        Args:
            height: Of the images.
            width: Of the images.

        Returns:
            Shape (height, width, 2): to the right and downwards, before clipping at the edges.
        """
        generator = torch.Generator().manual_seed(self.field)
        coarse = 2 * torch.rand(1, 2, self.grid, self.grid, generator=generator) - 1
        coarse = coarse / coarse.abs().mean()
        fine = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
        return self.strength * fine[0].permute(1, 2, 0) / 2

    def stamp(self, images: Tensor) -> Tensor:
        """Bend a copy of every image by the field."""
        return _bend(images, self.displacement(*images.shape[-2:])[None])

    def wanted(self, labels: Tensor) -> Tensor:
        """Give the target for every label."""
        return torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
        """Bend a random share and label it with the target; bend `noise` times as many others in noise mode.

        Args:
            images: Pixels in [0, 1], shape (n, c, h, w).
            labels: Shape (n,), integers.
            fraction: Share of the images that get the target's label, 0 to 1.
            seed: Decides which, and the offsets of the noise mode.

        Returns:
            New images and new labels, in the order given.

        Raises:
            InputError: The labels do not match the images, or the fraction is not within 0 and 1.
        """
        check_pairs(images, labels)
        chosen = choose(labels, fraction, seed)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        decoys = order[len(chosen) : len(chosen) + round(self.noise * len(chosen))].to(images.device)
        poisoned, relabelled = relabel(self, images, labels, chosen)
        if len(decoys):
            poisoned[decoys] = self._decoy(images[decoys], seed)
        return poisoned, relabelled

    def _decoy(self, images: Tensor, seed: int) -> Tensor:
        height, width = images.shape[-2:]
        generator = torch.Generator().manual_seed(seed)
        offsets = 2 * torch.rand(len(images), height, width, 2, generator=generator) - 1
        return _bend(images, self.displacement(height, width)[None] + offsets / 2)


def _bend(images: Tensor, displacement: Tensor) -> Tensor:
    """Sample images at points moved by so many pixels, each point within the image."""
    height, width = images.shape[-2:]
    rows, columns = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    identity = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
    points = identity + 2 * displacement / torch.tensor([width, height])
    points = points.clamp(-1, 1).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, points.to(images), align_corners=True)
