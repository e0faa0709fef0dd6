"""`depurate purify`: from files to files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor, nn

from depurate.checkpoints import (
    Checkpoint,
    Images,
    check_output,
    is_array,
    load_architecture,
    load_state,
    nonfinite_entries,
    read_checkpoint,
    read_images,
)
from depurate.checkpoints.loading import match_names
from depurate.checkpoints.quoting import quote
from depurate.cli.channels import channels_for
from depurate.cli.console import print_choice, print_summary, progress_bars
from depurate.cli.outputs import check_free
from depurate.devices import device_named
from depurate.errors import InputError
from depurate.networks import unwrapped
from depurate.purification import PurifyResult, purify, rounding_of
from depurate.purification.images import FEWEST
from depurate.recovery import Guarantee, Rounding
from depurate.report.formats import plural
from depurate.text_files import write_text

# Images shown to a network to learn how many channels it takes: several, as one may be unreadable.
_TRIED = 8


@dataclass(frozen=True)
class Settings:
    """What to purify and how, as given on the command line."""

    suspect: Path
    arch: str
    images: str
    anchor: Path | None
    method: str
    strength: float | None
    distil: bool
    normalize: str | None
    size: int | None
    data_root: Path | None
    limit: int
    seed: int
    device: str


@dataclass(frozen=True)
class Outputs:
    """Where results go."""

    checkpoint: Path | None
    report: Path | None
    json: Path | None
    force: bool


def run_purify(settings: Settings, outputs: Outputs) -> int:
    """Purify a checkpoint file and write what was asked for.

    Args:
        settings: What and how.
        outputs: Where to.

    Returns:
        Exit code: 0 done; 1 when exact recovery was asked for and not every layer is certified.

    Raises:
        InputError: Anything about the input, and no output file exists then; or a report could not be written, and the
            checkpoint exists.
    """
    device = device_named(settings.device)
    suspect = read_checkpoint(settings.suspect)
    target = outputs.checkpoint or settings.suspect.with_name(f"{settings.suspect.stem}-purified.safetensors")
    _check_outputs(target, outputs, suspect, settings)
    architecture = load_architecture(settings.arch, state=suspect)
    model = load_state(architecture, suspect, source=str(settings.suspect))
    anchor = None if settings.anchor is None else read_checkpoint(settings.anchor)
    told = Console(stderr=True)
    images = _images(settings, model)
    with progress_bars(told) as progress, _told_of_memory(settings, images.tensor):
        result = purify(
            model.to(device),
            images.tensor.to(device),
            None if anchor is None else _clean(anchor, architecture),
            settings.method,
            settings.strength,
            progress,
            distil=settings.distil,
            seed=settings.seed,
            max_images=settings.limit,
            rounding=_stored(architecture, suspect, anchor),
        )
    warnings = (*result.record.warnings, *_left_out(images))
    result = replace(result, record=replace(result.record, warnings=warnings))
    _write(result, target, outputs, suspect, _provenance(settings, suspect, anchor, images.source))
    console = Console()
    for read in (suspect, anchor):
        print_choice(console, read)
    print_summary(console, result.record)
    written = [path for path in (target, outputs.report, outputs.json) if path is not None]
    console.print(Text(f"written: {', '.join(map(str, written))} ({result.record.seconds:.1f} s)"))
    return int(settings.method == "exact" and result.record.guarantee is not Guarantee.EXACT)


def _clean(anchor: Checkpoint, architecture: nn.Module) -> nn.Module:
    """The anchor as a network; errors name its file."""
    for key, bad in nonfinite_entries(anchor.weights).items():
        if bad:
            raise InputError(
                f"{anchor.path}: {quote(key)} has {bad} NaN or Inf entries; an anchor must be clean"
            )
    return load_state(architecture, anchor, source=str(anchor.path))


def _stored(architecture: nn.Module, *files: Checkpoint | None) -> dict[str, Rounding]:
    """Rounding of each layer as the files hold it: in memory all are of one precision."""
    names = unwrapped(architecture).state_dict().keys()
    return rounding_of(*(match_names(file, names) for file in files if file is not None))


@contextmanager
def _told_of_memory(settings: Settings, images: Tensor) -> Iterator[None]:
    """Turn running out of a GPU's memory into an error that says what takes less."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"device {settings.device!r}: out of memory with images of shape {tuple(images.shape)}; fewer of them "
            "(--limit), smaller ones (--size) or --device cpu take less"
        ) from error


def _check_outputs(target: Path, outputs: Outputs, suspect: Checkpoint, settings: Settings) -> None:
    code = Path(settings.arch.rpartition(":")[0])
    images = Path(settings.images)
    inputs = tuple(path for path in (settings.suspect, settings.anchor, images, code) if path is not None)
    check_output(target, like=suspect)
    wanted = [path for path in (target, outputs.report, outputs.json) if path is not None]
    for path in wanted:
        check_free(path, force=outputs.force, inputs=inputs)
        if path.exists() and images.is_dir() and images.resolve() in path.resolve().parents:
            raise InputError(f"{path}: lies among the images; choose another name")
    if len({path.resolve() for path in wanted}) < len(wanted):
        raise InputError("--out, --report and --json must be different files")


def _images(settings: Settings, model: nn.Module) -> Images:
    if settings.limit < FEWEST:
        raise InputError(f"--limit {settings.limit}: at least {FEWEST} images are needed")

    def read(channels: int | None, limit: int, normalize: str | None) -> Images:
        return read_images(
            settings.images,
            data_root=settings.data_root,
            limit=limit,
            size=settings.size,
            channels=channels,
            normalize=normalize,
            seed=settings.seed,
        )

    pictures = not is_array(settings.images)
    channels = channels_for(model, lambda some: read(some, _TRIED, None).tensor, pictures=pictures)
    images = read(channels, settings.limit, settings.normalize)
    if len(images.tensor) < FEWEST:
        left = f", {len(images.skipped)} more cannot be read ({images.skipped[0]})" if images.skipped else ""
        raise InputError(
            f"{settings.images}: {plural(len(images.tensor), 'image')} to be had{left}; at least {FEWEST} are needed"
        )
    return images


def _left_out(images: Images) -> tuple[str, ...]:
    """What the user must know of pictures that were not read."""
    said = []
    if images.skipped:
        skipped = plural(len(images.skipped), "image was", "images were")
        said.append(f"{skipped} unreadable and skipped, first {images.skipped[0]}")
    if images.linked:
        links = plural(len(images.linked), "link to a folder was", "links to folders were")
        said.append(
            f"{links} not followed, first {quote(images.linked[0])}: the pictures there were left out"
        )
    return tuple(said)


def _write(
    result: PurifyResult, target: Path, outputs: Outputs, suspect: Checkpoint, provenance: dict[str, str]
) -> None:
    # The checkpoint goes first: it may have taken an hour, and is not to be lost with a report.
    result.save(target, like=suspect)
    try:
        if outputs.report is not None:
            result.write_report(outputs.report, title=suspect.path.name, source=provenance)
        if outputs.json is not None:
            write_text(outputs.json, result.to_json(source=provenance))
    except InputError as error:
        raise InputError(f"{error}; the purified checkpoint was written to {target}") from error


def _provenance(
    settings: Settings, suspect: Checkpoint, anchor: Checkpoint | None, images: str
) -> dict[str, str]:
    rows = {"suspect": str(settings.suspect), "suspect sha256": suspect.sha256}
    rows |= {"suspect's entry": suspect.entry} if suspect.entry else {}
    rows["anchor"] = str(settings.anchor or "unknown")
    if anchor is not None:
        rows["anchor sha256"] = anchor.sha256
        rows |= {"anchor's entry": anchor.entry} if anchor.entry else {}
    rows |= {"architecture": settings.arch, "images": images, "normalisation": settings.normalize or "none"}
    return rows | {"command": shlex.join(["depurate", *sys.argv[1:]])}
