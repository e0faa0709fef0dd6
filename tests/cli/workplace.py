"""A small network on disk with everything that the command needs to purify it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

_ARCHITECTURE = """
import torch
from torch import nn

def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)
    )

def wider():
    return nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(180, 3)
    )

class Greedy(nn.Sequential):
    def forward(self, images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(images)

def greedy():
    return Greedy(*net())
"""


@dataclass(frozen=True)
class Workplace:
    """Files in a folder, and the command run there."""

    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "depurate", *arguments]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, timeout=120, check=False
        )

    def purify(
        self, *extra: str, suspect: str = "suspect.safetensors", images: str = "benign.npz", arch: str = "net"
    ):
        return self.run("purify", suspect, "--arch", f"arch.py:{arch}", "--images", images, *extra)

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()} - {"__pycache__"}


def network() -> torch.nn.Module:
    """The network that `arch.py:net` builds."""
    scope: dict[str, Callable[[], torch.nn.Module]] = {}
    exec(_ARCHITECTURE, scope)
    return scope["net"]().eval()


def make_workplace(folder: Path) -> Workplace:
    """Put a suspect, its architecture and benign images into a folder."""
    (folder / "arch.py").write_text(_ARCHITECTURE)
    torch.manual_seed(0)
    save_file(network().state_dict(), folder / "suspect.safetensors")
    images = np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32)
    np.savez(folder / "benign.npz", images=images)
    return Workplace(folder)
