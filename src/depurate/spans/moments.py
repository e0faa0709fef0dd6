"""What benign images say about one layer: its clean patches, the outputs wanted there, and their second moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn

from depurate.spans.geometry import read_kernels
from depurate.spans.passes import Passes
from depurate.spans.sites import Site

# Patches kept beside their second moment, to look at the span without its eigenvalues.
_SAMPLE = 1024


@dataclass(frozen=True)
class Sampling:
    """How many patches of a layer to look at: `per_fan_in`·fan_in, at least `least`, chosen by `seed`.

    Example:
        >>> Sampling().positions(fan_in=10, images=500, available=1024)
        40
        >>> Sampling().positions(fan_in=25000, images=500, available=1)
        1
    """

    per_fan_in: int = 16
    least: int = 20_000
    seed: int = 0

    def positions(self, fan_in: int, images: int, available: int) -> int:
        """Positions to take from each image."""
        wanted = max(self.least, self.per_fan_in * fan_in)
        return min(available, -(-wanted // images))


@dataclass(frozen=True)
class Moments:
    """Second moments of clean patches x̃ and of the wanted outputs t: E[x̃x̃ᵀ], E[t x̃ᵀ].

    When there are fewer patches than `fan_in` the patches themselves are kept instead (the dual form), so that no
    fan_in × fan_in matrix is ever made.

    Attributes:
        count: Patches seen.
        gram: Shape (groups, fan_in, fan_in), float64; None in dual form.
        cross: Shape (groups, kernels, fan_in), float64; None in dual form.
        rows: Shape (groups, count, fan_in); a sample of at most 1,024 patches unless in dual form.
        wanted: Shape (groups, count, kernels), only in dual form.
    """

    count: int
    gram: Tensor | None
    cross: Tensor | None
    rows: Tensor
    wanted: Tensor | None

    @property
    def dual(self) -> bool:
        """Whether patches stand in for their second moment."""
        return self.gram is None

    @property
    def energy(self) -> Tensor:
        """Mean of the diagonal of E[x̃x̃ᵀ], one number a group: the scale of the soft recovery's μ."""
        if self.gram is not None:
            return self.gram.diagonal(dim1=1, dim2=2).mean(1)
        return self.rows.double().square().sum(1).mean(1) / self.count

    def fills_space(self, group: int) -> bool:
        """Whether the patches of a group span all directions, found without their eigenvalues."""
        if self.gram is None:
            return False
        floor = 1e-6 * self.energy[group] if self.rows.dtype != torch.float64 else 1e-12 * self.energy[group]
        shifted = self.gram[group] - floor * torch.eye(
            self.gram.shape[1], dtype=torch.float64, device=self.gram.device
        )
        return bool(torch.linalg.cholesky_ex(shifted).info == 0)


def measure(
    suspect: nn.Module, purified: nn.Module, site: Site, batches: list[Tensor], sampling: Sampling
) -> Moments:
    """Measure one layer on benign images: clean patches in the purified prefix, outputs in the suspect.

    E[x̃x̃ᵀ] = (1/N) Σ x̃x̃ᵀ and E[t x̃ᵀ] = (1/N) Σ t x̃ᵀ with t = Θx, where x is the patch that the suspect itself
    sees at the position of x̃. Summed batch by batch; memory does not grow with the number of images.

    Args:
        suspect: The network as received (known contaminated entries filled in), evaluation mode.
        purified: A copy whose layers before `site` are purified already.
        site: The layer to measure.
        batches: Benign images.
        sampling: How many positions to look at.

    Returns:
        The moments over the sampled positions, in the dual form if there are fewer of them than `fan_in`.
    """
    with Passes(suspect, [site], batches) as theirs, Passes(purified, [site], batches) as ours:
        return measure_passes(theirs, ours, site, read_kernels(suspect.get_submodule(site.name)), sampling)


def measure_passes(
    suspect: Passes | None, purified: Passes, site: Site, kernels: Tensor, sampling: Sampling
) -> Moments:
    """Measure one layer as `measure` does, on passes that may go on afterwards.

    Args:
        suspect: What the suspect was shown, batch for batch beside what the purified network was shown; the images
            may differ, and then say what the suspect's outputs are wanted for. None where outputs are not needed.
        purified: What the purified network was shown.
        site: The layer to measure.
        kernels: Θ, shape (groups, kernels, fan_in), of the suspect.
        sampling: How many positions to look at.

    Returns:
        The moments; their outputs are zero without a suspect.
    """
    geometry = site.geometry
    assert geometry is not None
    images = sum(len(batch) for batch in purified.batches)
    chosen = sampling.positions(geometry.fan_in, images * site.calls, site.positions // site.calls)
    total_patches = chosen * images * site.calls
    total = _Sum(keep_all=total_patches < geometry.fan_in, every=-(-total_patches // _SAMPLE))
    for patches, wanted in _sampled(suspect, purified, site, kernels, chosen, sampling.seed):
        total.add(patches, wanted)
    return total.moments()


def _sampled(
    suspect: Passes | None, purified: Passes, site: Site, kernels: Tensor, chosen: int, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    geometry = site.geometry
    assert geometry is not None
    generator = torch.Generator().manual_seed(seed)
    theirs = repeat(None) if suspect is None else suspect.inputs(site)
    for batch, ours, meant in zip(purified.batches, purified.inputs(site), theirs, strict=False):
        for call, inputs in enumerate(ours):
            share = -(-chosen * len(batch) // len(inputs))
            at = _choose(len(inputs), geometry.positions(inputs), share, generator).to(inputs.device)
            patches = geometry.patches(inputs, at)
            if meant is None:
                yield patches, patches.new_zeros(*patches.shape[:2], kernels.shape[1])
            else:
                same = meant[call] is inputs  # the first layer reads the images themselves
                yield patches, (patches if same else geometry.patches(meant[call], at)) @ kernels.mT


def _choose(n: int, available: int, chosen: int, generator: torch.Generator) -> Tensor:
    # In random order, also where all are taken: the rows kept as a sample must not favour a place in the image.
    return torch.rand(n, available, generator=generator).topk(min(chosen, available), dim=1).indices


class _Sum:
    """Running sums over batches; a plain mutable accumulator that lives only inside `measure`."""

    def __init__(self, *, keep_all: bool, every: int) -> None:
        self.keep_all = keep_all
        self.every = every
        self.count = 0
        self.gram: Tensor | None = None
        self.cross: Tensor | None = None
        self.rows: list[Tensor] = []
        self.wanted: list[Tensor] = []

    def add(self, patches: Tensor, wanted: Tensor) -> None:
        skip = -self.count % self.every
        self.count += patches.shape[1]
        if self.keep_all:
            self.rows.append(patches)
            self.wanted.append(wanted)
            return
        # Products in the layer's own precision, sums in float64: one batch is too short for rounding to matter.
        gram = (patches.mT @ patches).double()
        cross = (wanted.mT @ patches).double()
        self.gram = gram if self.gram is None else self.gram.add_(gram)
        self.cross = cross if self.cross is None else self.cross.add_(cross)
        # A copy: a slice would keep all patches of the batch in memory.
        self.rows.append(patches[:, skip :: self.every].clone())

    def moments(self) -> Moments:
        rows = torch.cat(self.rows, dim=1)
        if self.keep_all:
            return Moments(self.count, None, None, rows, torch.cat(self.wanted, dim=1))
        assert self.gram is not None
        assert self.cross is not None
        rows = rows[:, :: -(-rows.shape[1] // _SAMPLE)]
        return Moments(self.count, self.gram / self.count, self.cross / self.count, rows, None)
