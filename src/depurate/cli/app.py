"""The commands with their options and help; the work itself is imported only when a command runs."""

# Imports inside the commands are meant: torch takes seconds to load, and `--help` should not wait for it.

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from depurate.errors import InputError

app = typer.Typer(
    name="depurate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Purify contaminated neural networks: a suspect checkpoint and a few hundred unlabelled clean images in, "
    "a purified checkpoint and an honest report out. No labels, no training.\n\n"
    "Start with [bold]depurate demo[/bold]. Exit codes: 0 done, 1 done but not to the guarantee that was asked for, "
    "2 bad input.",
)

Suspect = Annotated[
    Path, typer.Argument(help="Checkpoint as received: .safetensors, or a torch file of plain tensors.")
]
Anchor = Annotated[
    Path | None,
    typer.Option(
        help="Checkpoint that training started from (initialisation or base model). Unknown: leave it out."
    ),
]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the account as JSON.")]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite output files that exist (never the suspect).")
]


class Method(StrEnum):
    """How layers are recovered."""

    auto = "auto"
    exact = "exact"
    soft = "soft"


def main() -> None:
    """Run the command; bad input ends in one line on standard error and exit code 2."""
    # Read when torch loads, which is later: idle threads sleep instead of spinning, or a machine that is busy with
    # something else makes every small layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app()
    except InputError as error:
        print(f"depurate: {error}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Print the version."""
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"depurate {installed('depurate')}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo's files; made if missing.")] = Path(
        "depurate-demo"
    ),
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
) -> None:
    """Run the whole path on real handwritten digits that ship with scikit-learn, in under a minute.

    First the paper's network: hit in 30 % of its weights, recovered exactly and certified. Then a small deep network
    with a backdoor, trained on the spot and purified without labels. Nothing is downloaded. The files it leaves let
    you try [bold]depurate purify[/bold] and [bold]inspect[/bold] yourself.
    """
    from depurate.cli.demo import run_demo

    run_demo(out, seed)


@app.command()
def purify(
    suspect: Suspect,
    arch: Annotated[
        str,
        typer.Option(
            help="Architecture: [bold]torchvision:resnet18[/bold], [bold]timm:NAME[/bold], or "
            "[bold]FILE.py:factory[/bold] (your own file, which is executed)."
        ),
    ],
    images: Annotated[
        str,
        typer.Option(
            help="Clean, unlabelled images: a folder or .zip of pictures, an .npz/.npy/.safetensors array, or "
            "[bold]torchvision:MNIST[/bold] with --data-root. A few hundred are enough."
        ),
    ],
    anchor: Anchor = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Purified checkpoint. Left out: the suspect's name with -purified.safetensors.."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML report.")] = None,
    json: Json = None,
    method: Annotated[
        Method,
        typer.Option(
            help="exact: the paper's l1 recovery, with certificates. soft: closed form, against backdoors. "
            "auto: exact where it can be certified, hit entries where memory was damaged, soft elsewhere."
        ),
    ] = Method.auto,
    strength: Annotated[
        float | None,
        typer.Option(
            help="λ of the soft recovery: more removes more and costs accuracy; 0.03 is gentle, 0.3 strong. "
            "Left out: chosen on held-back images, without labels."
        ),
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="What training did to pixels in [0, 1]: MEAN,STD or M1,M2,M3/S1,S2,S3.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize and centre-crop pictures to this many pixels.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where torchvision's datasets lie.")] = None,
    limit: Annotated[int, typer.Option(help="Use at most this many images, chosen by --seed.")] = 500,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    force: Force = False,
) -> None:
    """Purify a suspect checkpoint with clean, unlabelled images.

    Writes a safetensors file with the suspect's own keys and dtypes, never over the suspect. Example:

    depurate purify resnet.pt --arch torchvision:resnet18 --images photos/ --size 224
    --normalize 0.485,0.456,0.406/0.229,0.224,0.225 --report report.html
    """
    from depurate.cli.purify import Outputs, Settings, run_purify

    settings = Settings(
        suspect, arch, images, anchor, method.value, strength, normalize, size, data_root, limit, seed
    )
    sys.exit(run_purify(settings, Outputs(out, report, json, force)))


@app.command()
def inspect(suspect: Suspect, anchor: Anchor = None, json: Json = None, force: Force = False) -> None:
    """Look at a checkpoint without images: NaN and Inf, entries no training produces, differences from the anchor.

    A backdoor does not show this way; it takes [bold]depurate purify[/bold] and benign images to act on one.
    """
    from depurate.cli.inspect import run_inspect

    run_inspect(suspect, anchor, json, force)


bench = typer.Typer(no_args_is_help=True, help="Run depurate side by side with its rivals.")
app.add_typer(bench, name="bench")


@bench.command()
def solver(
    out: Annotated[Path, typer.Option(help="Folder for solver.json, solver.md and solver.svg.")] = Path(
        "runs/solver"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Three small problems, a few minutes.")] = False,
    columns: Annotated[int, typer.Option(help="Columns every rival solves.", min=1)] = 1,
    limit: Annotated[float, typer.Option(help="Seconds a rival may take for one problem.", min=1)] = 120.0,
    threads: Annotated[int, typer.Option(help="Threads for every process.", min=1)] = 1,
    design: Annotated[
        list[Path] | None, typer.Option(help="An .npz with an array `design`, run beside the Gaussian ones.")
    ] = None,
) -> None:
    """Solve the same l1 regressions with depurate and with every solver one can install, one process each.

    The rivals come with the extra `bench`; those that are not installed are named in the table.
    """
    from depurate.bench.solver import run

    run(
        out,
        quick=quick,
        designs=design or (),
        columns=columns,
        limit=limit,
        threads=threads,
        progress=lambda line: typer.echo(line, err=True),
    )
    typer.echo((out / "solver.md").read_text())
