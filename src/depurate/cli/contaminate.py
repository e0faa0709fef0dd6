"""`depurate contaminate`: a clean checkpoint in, a contaminated one and the truth about it out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from depurate.checkpoints import Checkpoint, check_output, read_checkpoint, write_checkpoint
from depurate.cli.console import print_choice
from depurate.cli.outputs import check_free
from depurate.contamination import parse_noise
from depurate.errors import InputError


@dataclass(frozen=True)
class Contamination:
    """What to contaminate, how, and where the results go."""

    clean: Path
    noise: str
    seed: int
    layers: str
    out: Path
    mask: Path | None
    force: bool


def run_contaminate(asked: Contamination) -> None:
    """Contaminate a checkpoint file and write it, with its mask if wanted.

    Args:
        asked: What, how and where to.

    Raises:
        InputError: Anything about the input; no output file exists then.
    """
    noise = parse_noise(asked.noise)
    clean = read_checkpoint(asked.clean)
    targets = [asked.out] if asked.mask is None else [asked.out, asked.mask]
    for target in targets:
        check_output(target, like=clean)
        check_free(target, force=asked.force, inputs=(asked.clean,))
    if asked.mask is not None and asked.mask.resolve() == asked.out.resolve():
        raise InputError(f"{asked.mask}: given for the mask and for the checkpoint")
    found = noise.apply(clean.weights, asked.seed, _without(clean.prefix, asked.layers))
    notes = {
        "depurate_noise": noise.spec,
        "depurate_noise_seed": str(asked.seed),
        "depurate_noise_layers": asked.layers,
    }
    write_checkpoint(asked.out, found.values, like=clean, metadata=notes)
    if asked.mask is not None:
        named = {clean.prefix + name: mask for name, mask in found.mask.items()}
        like = Checkpoint(clean.path, named, clean.format, (), clean.prefix, {}, clean.sha256)
        write_checkpoint(asked.mask, found.mask, like=like, metadata=notes)
    hits = sum(int(mask.sum()) for mask in found.mask.values())
    entries = sum(mask.numel() for mask in found.mask.values())
    console = Console()
    print_choice(console, clean)
    console.print(
        Text(
            f"{noise.spec}: {hits:,} of {entries:,} entries hit in {len(found.mask)} tensors, written to {asked.out}"
        )
    )


def _without(prefix: str, layers: str) -> str:
    """Globs over the file's own names as globs over the network's, which lack the prefix."""
    globs = (glob.strip() for glob in layers.split(","))
    return ",".join(
        "!" * glob.startswith("!") + glob.removeprefix("!").removeprefix(prefix) for glob in globs
    )
