"""What benign images say about one layer: its clean patches, the outputs wanted there, and their second moments."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor, nn

from depurate.spans.geometry import Geometry, read_kernels
from depurate.spans.passes import Passes
from depurate.spans.sites import Site

# Patches kept beside their second moment, to look at the span without its eigenvalues.
SAMPLE = 1024
# Eigenvalues of a Gram matrix carry the rounding of the products: directions weaker than its root are lost in it.
GRAM_ROUNDING = {torch.float64: 1e-13, torch.float32: 1e-5}
# Patches multiplied at a time, at least: sums of wide layers would cost more than products of few patches.
_CHUNK = 2048
# Numbers in the patches of all groups together, of which `least` are wanted. A depthwise layer of a thousand channels
# would have half a billion.
_MOST_NUMBERS = 1 << 26
# Of every patch of a layer: one batch of large pictures would have a hundred million.
_MOST_AT_ONCE = 1 << 24
# Columns in a block of a second moment; blocks above the diagonal are the transposed ones below it.
_BLOCK = 512


@dataclass(frozen=True)
class Sampling:
    """How many patches of a layer to look at: `per_fan_in`·fan_in, at least `least`, chosen by `seed`.

    Fewer than `least` where a layer has many groups, each with patches of its own.

    Example:
        >>> from depurate.spans.geometry import DenseGeometry
        >>> Sampling().positions(DenseGeometry(9, bias=True), images=500, available=1024)
        40
        >>> Sampling().positions(DenseGeometry(25000, bias=False), images=500, available=1)
        1
        >>> Sampling().wanted(DenseGeometry(25, bias=False, groups=1000))
        2684
    """

    per_fan_in: int = 8
    least: int = 20_000
    seed: int = 0

    def wanted(self, geometry: Geometry) -> int:
        """Patches that say enough of a layer."""
        least = min(self.least, _MOST_NUMBERS // (geometry.groups * geometry.fan_in))
        return max(least, self.per_fan_in * geometry.fan_in)

    def positions(self, geometry: Geometry, images: int, available: int) -> int:
        """Positions to take from each image."""
        return min(available, -(-self.wanted(geometry) // images))


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
        precise: Whether the products were made in double precision.
    """

    count: int
    gram: Tensor | None
    cross: Tensor | None
    rows: Tensor
    wanted: Tensor | None
    precise: bool = False

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
        shifted = self.gram[group].clone()
        shifted.diagonal().sub_(floor)
        return bool(torch.linalg.cholesky_ex(shifted).info == 0)

    def surely_wider(self, group: int, share: float, patches: int | None = None) -> bool:
        """Whether the patches of a group surely span more than a share of all directions, without eigenvalues.

        Sylvester: E[x̃x̃ᵀ] − τI has as many positive pivots as E[x̃x̃ᵀ] has eigenvalues above τ, here above the
        rounding of the largest one, which the Frobenius norm bounds. N patches of which these are a part have at
        least count/N of each of their eigenvalues.

        Args:
            group: Which group of the layer's kernels.
            share: Of the fan-in.
            patches: N, where these were only a first look; None where they are all.

        Returns:
            True only where it is sure; always False for float64, whose finer limit pivots cannot resolve.
        """
        if self.gram is None or self.rows.dtype == torch.float64:
            return False
        gram = self.gram[group]
        floor = GRAM_ROUNDING[torch.float32] * torch.linalg.matrix_norm(gram)
        shifted = gram.clone()
        shifted.diagonal().sub_(floor * max(1.0, (patches or self.count) / self.count))
        # On the CPU: a GPU takes twenty times as long for these pivots. A pivot may be zero: it is not above zero.
        factor, pivots, _ = torch.linalg.ldl_factor_ex(shifted.cpu())
        # Blocks of two, which negative pivots mark, have one eigenvalue of either sign.
        single = pivots > 0
        above = int((factor.diagonal()[single] > 0).sum()) + int((~single).sum()) // 2
        return above > share * len(gram)


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
    places = purified.places(site)
    images = sum(len(purified.batches[place]) for place in places)
    chosen = sampling.positions(geometry, images * site.calls, site.positions // site.calls)
    total_patches = chosen * images * site.calls
    total = _Sum(keep_all=total_patches < geometry.fan_in, every=-(-total_patches // SAMPLE))
    for patches, wanted in _sampled(suspect, purified, site, places, kernels, chosen, sampling.seed):
        total.add(patches, wanted)
    return total.moments()


def measure_whole(purified: Passes, site: Site) -> Moments:
    """Measure every patch that a layer is shown, with products in double precision.

    A sample may miss a direction that few patches have, and products in single precision lose those of little energy:
    good enough to recover with, not to certify with.

    Args:
        purified: What the purified network was shown.
        site: The layer to measure.

    Returns:
        The moments, without outputs.

    Example:
        >>> from depurate.spans import find_sites
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3)).eval()
        >>> with Passes(net, find_sites(net, torch.zeros(1, 1, 9, 9)), [torch.rand(4, 1, 9, 9)]) as passes:
        ...     measure_whole(passes, find_sites(net, torch.zeros(1, 1, 9, 9))[0]).count
        196
    """
    geometry = site.geometry
    assert geometry is not None
    count = sum(map(len, purified.batches)) * site.positions
    total = _Sum(keep_all=count < geometry.fan_in, every=-(-count // SAMPLE), precise=True)
    generator = torch.Generator().manual_seed(0)
    for inputs in (made for calls in purified.inputs(site) for made in calls):
        available = geometry.positions(inputs)
        images = max(1, _MOST_AT_ONCE // (available * geometry.groups * geometry.fan_in))
        for some in torch.split(inputs, images):
            at = _choose(len(some), available, available, generator).to(inputs.device)
            patches = geometry.patches(some, at)
            total.add(patches, patches.new_zeros(*patches.shape[:2], 0))
    return total.moments()


def _sampled(
    suspect: Passes | None,
    purified: Passes,
    site: Site,
    places: range,
    kernels: Tensor,
    chosen: int,
    seed: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    geometry = site.geometry
    assert geometry is not None
    generator = torch.Generator().manual_seed(seed)
    theirs = repeat(None) if suspect is None else suspect.inputs(site, places)
    batches = (purified.batches[place] for place in places)
    for batch, ours, meant in zip(batches, purified.inputs(site, places), theirs, strict=False):
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

    def __init__(self, *, keep_all: bool, every: int, precise: bool = False) -> None:
        self.keep_all = keep_all
        self.precise = precise
        self.every = every
        self.count = 0
        self.gram: Tensor | None = None
        self.cross: Tensor | None = None
        self.rows: list[Tensor] = []
        self.wanted: list[Tensor] = []
        self.waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, patches: Tensor, wanted: Tensor) -> None:
        skip = -self.count % self.every
        self.count += patches.shape[1]
        if self.keep_all:
            self.rows.append(patches)
            self.wanted.append(wanted)
            return
        # A copy: a slice would keep all patches of the batch in memory.
        self.rows.append(patches[:, skip :: self.every].clone())
        self.waiting.append((patches, wanted))
        if sum(waiting.shape[1] for waiting, _ in self.waiting) >= min(_CHUNK, patches.shape[2]):
            self._multiply()

    def _multiply(self) -> None:
        if not self.waiting:
            return
        patches, wanted = (
            parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            for parts in zip(*self.waiting, strict=True)
        )
        self.waiting.clear()
        groups, _, fan_in = patches.shape
        if self.gram is None or self.cross is None:
            self.gram = patches.new_zeros(groups, fan_in, fan_in, dtype=torch.float64)
            self.cross = patches.new_zeros(groups, wanted.shape[2], fan_in, dtype=torch.float64)
        # Else products in the layer's own precision, sums in float64: a chunk is too short for rounding to matter much.
        if self.precise:
            patches, wanted = patches.double(), wanted.double()
        for start in range(0, fan_in, _BLOCK):
            end = start + _BLOCK
            self.gram[:, start:end, :end] += patches[:, :, start:end].mT @ patches[:, :, :end]
        self.cross += wanted.mT @ patches

    def moments(self) -> Moments:
        if self.keep_all:
            rows, wanted = torch.cat(self.rows, dim=1), torch.cat(self.wanted, dim=1)
            return Moments(self.count, None, None, rows, wanted, self.precise)
        self._multiply()
        assert self.gram is not None
        assert self.cross is not None
        for start in range(_BLOCK, self.gram.shape[1], _BLOCK):
            end = start + _BLOCK
            self.gram[:, :start, start:end] = self.gram[:, start:end, :start].mT
        rows = torch.cat(self.rows, dim=1)
        rows = rows[:, :: -(-rows.shape[1] // SAMPLE)]
        gram, cross = self.gram.div_(self.count), self.cross.div_(self.count)
        return Moments(self.count, gram, cross, rows, None, self.precise)
