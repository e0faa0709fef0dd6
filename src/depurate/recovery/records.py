"""What a purification found, did and can guarantee: one frozen record a layer, one for the whole network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class Guarantee(StrEnum):
    """How far a layer's purified weights can be trusted, strongest first.

    >>> Guarantee("partial").sentence
    'some kernels certified, the others are estimates'
    """

    EXACT = "exact"
    UNCHANGED = "unchanged"
    PARTIAL = "partial"
    APPROXIMATE = "approximate"
    NONE = "none"

    @property
    def sentence(self) -> str:
        """The guarantee in one plain sentence."""
        return {
            "exact": "every kernel certified: the clean weights, if training stayed in the span of what reaches the "
            "layer and the layers before it are clean",
            "unchanged": "returned bit for bit as received",
            "partial": "some kernels certified, the others are estimates",
            "approximate": "an estimate; no proof of what was clean",
            "none": "nothing could be identified here; see the note",
        }[self.value]


@dataclass(frozen=True)
class Spectrum:
    """Where a layer's update lies: share of energy along each leading direction of the clean patches.

    `span[i]` is the share of the patches' energy along direction i (descending), `suspect[i]` and `purified[i]` the
    shares of the suspect's and the purified update (weights minus anchor) along the same direction; what either lacks
    to 1 lies outside these directions. At most 512 bins; longer spectra are summed in equal runs, the last of which may
    be shorter, and `directions` says how many directions there are in all (0: one a bin). In a layer that was repaired
    first, the suspect is the repaired one.
    """

    span: tuple[float, ...]
    suspect: tuple[float, ...]
    purified: tuple[float, ...]
    directions: int = 0

    def ends(self) -> list[int]:
        """How many leading directions each bin and those before it hold.

        >>> Spectrum((0.5, 0.3, 0.2), (1.0, 0.0, 0.0), (1.0, 0.0, 0.0), directions=5).ends()
        [2, 4, 5]
        """
        bins = len(self.span)
        run, last = -(-self.directions // max(bins, 1)) or 1, self.directions or bins
        return [min(run * (place + 1), last) for place in range(bins)]


@dataclass(frozen=True)
class Histogram:
    """Counts of |what was taken away| = |suspect − purified| over logarithmic bins; `zeros` is left out of them."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    zeros: int


@dataclass(frozen=True)
class NoiseEstimate:
    """What robust recovery estimates of the sparse noise in a layer.

    Attributes:
        share: Of entries hit, those that cannot be told from good ones included.
        scale: Of the noise, in units of the weights; None where only certain hits were found.
        precision: Expected share of truly hit entries among those replaced, by the model itself.
        unflipped: Hits that exactly one bit explains, restored by flipping it back.
    """

    share: float
    scale: float | None
    precision: float
    unflipped: int


@dataclass(frozen=True)
class LayerRecord:
    """What was found in one layer, what was done to it and what is guaranteed.

    Attributes:
        name: The module's name in the network, such as `layer1.0.conv2`.
        kind: The module's class, such as `Conv2d`.
        fan_in: Numbers a kernel has, the bias counted.
        kernels: Output units.
        patches: Patches the recovery saw (after subsampling), those of moved copies and of images with triggers
            included.
        rank: Dimension of the span used; equal to `fan_in` when the span is everything.
        method: `exact`, `soft`, `robust`, `filled`, `statistics` (BatchNorm re-estimated) or `none`.
        strength: The λ of the soft recovery, or None.
        nonfinite: Entries that arrived as NaN or Inf.
        contaminated: Entries taken for hit: non-finite, absurdly large, the certified support of the noise, or, in
            robust recovery, more likely hit than not.
        certified: Kernels whose recovery is certified exact.
        gap: Worst relative duality gap over the kernels, or None where no l1 problem was solved.
        margin: Worst max|z| over the rows of zero residual (below 1: the solution is unique), or None.
        moved: ‖purified − suspect‖ / ‖suspect‖ over the layer's weights and bias.
        off_span: Share of the suspect's update (weights minus anchor) outside the leading directions that hold
            99 % of the benign patches' energy.
        guarantee: The strongest statement that holds.
        notes: Findings in plain words: failure signatures, what could not be done and why.
        spectrum: For the plot of span against update, or None.
        residuals: For the histogram of what was taken away, or None.
        seconds: Wall time spent on this layer.
        noise: What robust recovery estimates of the noise, or None.
    """

    name: str
    kind: str
    fan_in: int
    kernels: int
    patches: int
    rank: int
    method: str
    strength: float | None
    nonfinite: int
    contaminated: int
    certified: int
    gap: float | None
    margin: float | None
    moved: float
    off_span: float | None
    guarantee: Guarantee
    notes: tuple[str, ...] = ()
    spectrum: Spectrum | None = None
    residuals: Histogram | None = None
    seconds: float = 0.0
    noise: NoiseEstimate | None = None


@dataclass(frozen=True)
class Agreement:
    """How often two networks answer alike on benign images that the recovery did not see.

    Attributes:
        images: How many held-back images were compared.
        agreement: Share of them with the same top answer, 0 to 1.
        low: Lower end of the 95 % Wilson interval.
        high: Upper end of the 95 % Wilson interval.
        expected_loss: Loss of accuracy, in points of 1, that the suspect's own confidences predict; no labels used.
        loss_error: Standard error of `expected_loss`.
    """

    images: int
    agreement: float
    low: float
    high: float
    expected_loss: float
    loss_error: float = 0.0


@dataclass(frozen=True)
class Trial:
    """One strength that was tried while choosing it, with the agreement it reached.

    Attributes:
        strength: λ.
        agreement: On images held back.
        chosen: Whether it was taken.
        share: Of the images that carried each trigger to be taught away; 0 where none was taught.
        distilled: Whether the recovery was distilled afterwards.
    """

    strength: float
    agreement: Agreement
    chosen: bool
    share: float = 0.0
    distilled: bool = False


@dataclass(frozen=True)
class Guessed:
    """A parameter or buffer outside the layers recovered in which entries were replaced by a guess.

    Attributes:
        name: Its name in the network.
        hit: Entries replaced.
        entries: It has.
    """

    name: str
    hit: int
    entries: int


@dataclass(frozen=True)
class TriggerSearch:
    """What the search for triggers saw: the smallest patch found for each class.

    Attributes:
        classes: Searched.
        sizes: Of the patches in pixels, one a class; None where none was found.
        flagged: Classes taken for the target of a backdoor.
        away: Size of the smallest patch that leads every image away from its own answer, to whatever class.
        evidence: What stood out: `patch`, `output weights`, `away`, `square`, `warp`, `addition`, `wave`,
            `aware`, `unshared patch`, `unshared change`, `unshared wave` (the last four: the suspect's purified self
            does not react to it), or nothing.
        natural: Classes that stood out, but are as easy to reach for the purified self, or for a student of the answers
            to benign images: easy by nature, unless flagged as well.
        side: Of the middles of large pictures in which patches were searched for; None for whole pictures.
        known: Classes that the network knows; 0 where that was not said.
    """

    classes: tuple[int, ...]
    sizes: tuple[float | None, ...]
    flagged: tuple[int, ...]
    away: float | None = None
    evidence: str = ""
    natural: tuple[int, ...] = ()
    side: int | None = None
    known: int = 0


@dataclass(frozen=True)
class PurifyRecord:
    """The whole account of one purification, ready for JSON and for the report.

    Attributes:
        method: The method asked for.
        guarantee: The weakest guarantee over all that was changed.
        anchor: `given`, or `unknown (zero)`.
        images: Benign images used for recovery.
        layers: One record a layer in forward order, BatchNorm included.
        agreement: Suspect against purified on held-back images; None when too few images to hold any back.
        trials: The strengths tried, empty when the strength was given.
        untouched: Parameters that no recovery covers (never executed, or of a kind not supported), by name.
        guessed: Parameters and buffers outside the layers in which entries were replaced by a guess: scales and shifts
            of normalisations, and whatever held NaN.
        warnings: Failure signatures of the whole run, in plain words.
        versions: Of depurate, torch and Python.
        seconds: Wall time of the whole.
        search: What the search for triggers saw, or None where none was made.
        strength: λ that was asked for, or None where it was to be chosen.
        untouched_entries: Numbers in the parameters that no recovery covers.
        entries: Numbers in all parameters of the network.
    """

    method: str
    guarantee: Guarantee
    anchor: str
    images: int
    layers: tuple[LayerRecord, ...]
    agreement: Agreement | None
    trials: tuple[Trial, ...] = ()
    untouched: tuple[str, ...] = ()
    guessed: tuple[Guessed, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    search: TriggerSearch | None = None
    strength: float | None = None
    untouched_entries: int = 0
    entries: int = 0

    @property
    def repaired_first(self) -> bool:
        """Whether entries were replaced before layers were recovered softly: agreement is with the repaired network."""
        replaced = any(
            layer.nonfinite or (layer.contaminated and layer.method != "exact") for layer in self.layers
        )
        soft = any(layer.method == "soft" for layer in self.layers)
        return soft and (replaced or bool(self.guessed))

    @property
    def compared(self) -> str:
        """What agreement is with, in words."""
        return "repaired network" if self.repaired_first else "suspect"

    @property
    def backdoor(self) -> bool:
        """Whether a backdoor was found, to one class or from each class to another; False where none was looked for."""
        return self.search is not None and bool(self.search.flagged or self.search.evidence)

    def to_dict(self) -> dict[str, Any]:
        """This record as plain dicts, lists, strings and numbers."""
        return asdict(self)
