"""The small deep network of the demo; this file stands alone, so that `--arch FILE.py:digits_network` can read it."""

from torch import nn


def digits_network() -> nn.Module:
    """Two convolutions and two dense layers for 8x8 digits in [0, 1].

    >>> import torch
    >>> digits_network()(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 10])
    """
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
