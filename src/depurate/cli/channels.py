"""How many channels a network's pictures have, told by what it accepts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from depurate.errors import InputError

_OF_PICTURES = (3, 1)


def channels_for(model: nn.Module, read: Callable[[int], Tensor], *, pictures: bool) -> int | None:
    """Tell how many channels images must have for a network that may have convolutions of several.

    The convolution that is registered first need not be the one that sees the images: attention to places, of one
    channel, often stands before it. So where convolutions differ, images are tried.

    Args:
        model: The network, in evaluation mode, on the CPU.
        read: Reads an image or a few with so many channels.
        pictures: Whether images are grey or coloured; an array may hold whatever the network takes.

    Returns:
        Channels to convert images to, or None to take them as they are.

    Example:
        >>> class Attentive(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.places, self.stem = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(3, 2, 3)
        ...     def forward(self, x):
        ...         return self.stem(x * self.places(x.mean(1, keepdim=True)))
        >>> channels_for(Attentive(), lambda channels: torch.zeros(1, channels, 4, 4), pictures=True)
        3
    """
    taken = dict.fromkeys(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    # Colour goes first: grey that is repeated loses nothing.
    likely = [some for some in _OF_PICTURES if some in taken] if pictures else [*taken]
    first = next(iter(taken), None)
    registered = first if first in likely else None
    if likely == [registered]:
        return registered
    return next((some for some in likely if _accepts(model, read, some)), registered)


def _accepts(model: nn.Module, read: Callable[[int], Tensor], channels: int) -> bool:
    try:
        images = read(channels)
    except InputError:  # which will be told where all of them are read
        return False
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(images.to(next(model.parameters())))
    except Exception:  # whatever a stranger's network raises
        return False
    return True
