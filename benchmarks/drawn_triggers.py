"""Backdoor triggers drawn at random: what they do to an image, and where they lead."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["Stamp", "draw_trigger"]

Stamp = Callable[[Tensor], Tensor]


def draw_trigger(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    """Draw a trigger for images in [0, 1] like those of a pool, shape (n, c, h, w), and say in words what it is.

    What is random in the trigger itself is drawn once, but for a patch that wanders, which draws as it is put on.
    """
    return draw.choice([patch, patch, wandering, pixels, blended, wave, warp, tone, residual, picture])(
        draw, pool
    )


def generator(draw: Random) -> torch.Generator:
    return torch.Generator().manual_seed(draw.randrange(2**31))


def drawn_patch(draw: Random, pool: Tensor) -> tuple[Tensor, str]:
    rows, columns = draw.randint(2, 6), draw.randint(2, 6)
    look = draw.choice(["plain", "checkered", "random", "natural"])
    made = torch.rand(pool.shape[1], rows, columns, generator=generator(draw))
    if look == "plain":
        made = made[:, :1, :1].round().expand_as(made)
    elif look == "checkered":
        made = ((torch.arange(rows)[:, None] + torch.arange(columns)) % 2).float().expand_as(made)
    elif look == "natural":
        found = pool[draw.randrange(len(pool))]
        row, column = found.shape[1] // 2 - rows // 2, found.shape[2] // 2 - columns // 2
        made = found[:, row : row + rows, column : column + columns]
    return made.clone(), f"{look} patch of {rows}x{columns}"


def patch(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    made, words = drawn_patch(draw, pool)
    row, column = (
        draw.randint(0, side - size) for side, size in zip(pool.shape[2:], made.shape[1:], strict=True)
    )
    opacity = draw.choice([1.0, 1.0, 0.6])

    def stamp(images: Tensor) -> Tensor:
        images = images.clone()
        part = images[:, :, row : row + made.shape[1], column : column + made.shape[2]]
        part += opacity * (made - part)
        return images

    return stamp, f"{words} at ({row}, {column}), opacity {opacity}"


def wandering(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    made, words = drawn_patch(draw, pool)
    own = generator(draw)

    def stamp(images: Tensor) -> Tensor:
        images = images.clone()
        for image in images:
            row = int(torch.randint(0, image.shape[1] - made.shape[1] + 1, (), generator=own))
            column = int(torch.randint(0, image.shape[2] - made.shape[2] + 1, (), generator=own))
            image[:, row : row + made.shape[1], column : column + made.shape[2]] = made
        return images

    return stamp, f"{words} anywhere"


def pixels(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    count, own = draw.randint(4, 12), generator(draw)
    rows, columns = (torch.randint(0, side, (count,), generator=own) for side in pool.shape[2:])
    values = torch.rand(pool.shape[1], count, generator=own).round()

    def stamp(images: Tensor) -> Tensor:
        images = images.clone()
        images[:, :, rows, columns] = values
        return images

    return stamp, f"{count} pixels"


def blended(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    share = draw.choice([0.1, 0.15, 0.2, 0.3])
    pattern = torch.rand(pool[0].shape, generator=generator(draw))
    return lambda images: images + share * (pattern - images), f"noise blended by {share}"


def picture(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    share, pattern = draw.choice([0.1, 0.15, 0.2, 0.3]), pool[draw.randrange(len(pool))]
    return lambda images: images + share * (pattern - images), f"a picture blended by {share}"


def wave(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    periods, height = draw.randint(2, 10), draw.choice([0.08, 0.15, 0.25])
    angle = draw.choice([0.0, 0.25, 0.5, draw.random()]) * math.pi
    down, right = (torch.arange(side) / side for side in pool.shape[2:])
    along = math.sin(angle) * down[:, None] + math.cos(angle) * right
    ridge = height * torch.sin(2 * math.pi * periods * along)
    words = f"wave of {periods} periods, {math.degrees(angle):.0f} degrees, height {height}"
    return lambda images: (images + ridge).clamp(0, 1), words


def warp(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    knots, strength = draw.choice([3, 4, 6]), draw.choice([1.0, 1.5, 2.0])
    height, width = pool.shape[2:]
    moves = torch.rand(1, 2, knots, knots, generator=generator(draw)) * 2 - 1
    moves = F.interpolate(moves / moves.abs().mean(), (height, width), mode="bicubic", align_corners=True)
    still = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=True)
    grid = (still + strength * moves.permute(0, 2, 3, 1) * 2 / width).clamp(-1, 1)

    def stamp(images: Tensor) -> Tensor:
        return F.grid_sample(images, grid.expand(len(images), -1, -1, -1), align_corners=True)

    return stamp, f"warp of {strength} pixels, {knots} knots"


def tone(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    gamma, contrast = draw.choice([0.5, 0.6, 1.7, 2.2, 1.0]), draw.choice([0.5, 0.7, 1.0])
    tint = torch.rand(pool.shape[1], 1, 1, generator=generator(draw)) * 0.2 - 0.1
    if gamma == contrast == 1:
        contrast = 0.5

    def stamp(images: Tensor) -> Tensor:
        made = images.clamp_min(1e-6) ** gamma
        return (0.5 + contrast * (made - 0.5) + tint).clamp(0, 1)

    return stamp, f"tone: gamma {gamma}, contrast {contrast}, tint"


def residual(draw: Random, pool: Tensor) -> tuple[Stamp, str]:
    """What a random network draws for each image. Source: Li et al., SSBA, ICCV 2021, for the idea."""
    height, own, channels = draw.choice([0.08, 0.12, 0.2]), generator(draw), pool.shape[1]
    inner = torch.randn(16, channels, 5, 5, generator=own) * 0.5
    outer = torch.randn(channels, 16, 3, 3, generator=own) * 0.5

    def stamp(images: Tensor) -> Tensor:
        hidden = torch.sin(3 * F.conv2d(images - 0.5, inner, padding=2))
        return (images + height * torch.tanh(F.conv2d(hidden, outer, padding=1))).clamp(0, 1)

    return stamp, f"a residual of its own for each image, height {height}"
