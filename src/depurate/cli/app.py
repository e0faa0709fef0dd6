"""The commands with their options and help; the work itself is imported only when a command runs."""

# Imports inside the commands are meant: torch takes seconds to load, and `--help` should not wait for it.

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from depurate.cli.bench_commands import bench
from depurate.cli.options import Anchor, Device, Force, Json, Seed, Suspect
from depurate.cli.zoo_commands import zoo
from depurate.errors import InputError

app = typer.Typer(
    name="depurate",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Purify contaminated neural networks: a suspect checkpoint and a few hundred unlabelled clean images in, "
    "a purified checkpoint and an honest report out. No labels needed.\n\n"
    "Start with [bold]depurate demo[/bold]. Exit codes: 0 done, 1 done but not to the guarantee that was asked for, "
    "2 bad input.",
)
app.add_typer(bench, name="bench")
app.add_typer(zoo, name="zoo")


class Method(StrEnum):
    """How layers are recovered."""

    auto = "auto"
    exact = "exact"
    soft = "soft"
    robust = "robust"


def main() -> None:
    """Run the command; bad input ends in one line on standard error and exit code 2."""
    # Read when torch loads, which is later: idle threads sleep instead of spinning, or a machine that is busy with
    # something else makes every small layer wait.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        _check_text(sys.argv)
        app()
    except InputError as error:
        print(f"depurate: {error}", file=sys.stderr)
        sys.exit(2)


def _check_text(arguments: list[str]) -> None:
    """Refuse what is no text: names of files, which metadata, reports and this terminal have to hold."""
    for argument in arguments:
        if not argument.isascii() and any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise InputError(f"{ascii(argument)[1:-1]}: is not text in UTF-8; rename that file or folder")


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
    seed: Seed = 0,
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
        typer.Option(help="Purified checkpoint. Left out: the suspect's name with -purified.safetensors"),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Also write a self-contained HTML report.")] = None,
    json: Json = None,
    method: Annotated[
        Method,
        typer.Option(
            help="exact: the paper's l1 recovery, with certificates. soft: closed form, against backdoors. "
            "robust: hit entries only, against sparse noise. "
            "auto: exact where it can be certified, robust where weights show noise or damage, and soft where a "
            "backdoor is found, in what was repaired, too."
        ),
    ] = Method.auto,
    strength: Annotated[
        float | None,
        typer.Option(
            help="λ of the soft recovery: more removes more and costs accuracy; 0.03 is gentle, 0.3 strong. "
            "Left out: chosen on held-back images, without labels. The auto method uses it where it finds a backdoor."
        ),
    ] = None,
    distil: Annotated[
        bool,
        typer.Option(
            "--distil",
            help="Where a backdoor was found: afterwards train the recovered layers together, without labels, to "
            "answer as the suspect does and not to follow the triggers found. Leaves less; takes minutes, on wide "
            "networks an hour.",
        ),
    ] = False,
    normalize: Annotated[
        str | None, typer.Option(help="What training did to pixels in [0, 1]: MEAN,STD or M1,M2,M3/S1,S2,S3.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Resize and centre-crop pictures to this many pixels.")
    ] = None,
    data_root: Annotated[Path | None, typer.Option(help="Where torchvision's datasets lie.")] = None,
    limit: Annotated[int, typer.Option(help="Use at most this many images, chosen by --seed.")] = 500,
    seed: Seed = 0,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Purify a suspect checkpoint with clean, unlabelled images.

    Writes a safetensors file with the suspect's own keys and dtypes, never over the suspect. Example:

    depurate purify resnet.pt --arch torchvision:resnet18 --images photos/ --size 224
    --normalize 0.485,0.456,0.406/0.229,0.224,0.225 --report report.html
    """
    from depurate.cli.purify import Outputs, Settings, run_purify

    settings = Settings(
        suspect=suspect,
        arch=arch,
        images=images,
        anchor=anchor,
        method=method.value,
        strength=strength,
        distil=distil,
        normalize=normalize,
        size=size,
        data_root=data_root,
        limit=limit,
        seed=seed,
        device=device,
    )
    sys.exit(run_purify(settings, Outputs(out, report, json, force)))


@app.command()
def inspect(suspect: Suspect, anchor: Anchor = None, json: Json = None, force: Force = False) -> None:
    """Look at a checkpoint without images: NaN and Inf, entries no training produces, differences from the anchor.

    Columns: [bold]peak[/bold] is the largest entry over the median one (4 to 5 for Gaussian weights; far more where
    bits were flipped), [bold]update[/bold] how far a tensor is from the anchor, as a share of the anchor's norm.

    A backdoor does not show this way; it takes [bold]depurate purify[/bold] and benign images to act on one.
    """
    from depurate.cli.inspect import run_inspect

    run_inspect(suspect, anchor, json, force)


@app.command()
def contaminate(
    clean: Annotated[
        Path, typer.Argument(help="Clean checkpoint: .safetensors, or a torch file of plain tensors.")
    ],
    noise: Annotated[
        str,
        typer.Option(
            help="What to do to it, KIND:NAME=VALUE,...: [bold]sparse:rate=0.3,law=gaussian,scale=10[/bold], "
            "[bold]bitflip:rate=1e-5,bits=exponent,memory=float16[/bold], [bold]stuck:rate=0.01,at=max[/bold], "
            "[bold]signflip:rate=0.01[/bold], [bold]burst:rate=0.01,over=pages[/bold] (or kernels, channels), "
            "[bold]rounding:bits=4[/bold], [bold]drift:gain=0.9,spread=0.05[/bold], "
            "[bold]dense:law=gaussian,scale=0.1[/bold], [bold]nonfinite:rate=0.001,value=nan[/bold]. "
            "Laws count in standard deviations of each tensor, or add unit=absolute."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Contaminated checkpoint, .safetensors.")],
    seed: Seed = 0,
    layers: Annotated[
        str, typer.Option(help="Tensors to hit, by globs over their names: '*.weight,!fc.*'.")
    ] = "*",
    mask: Annotated[
        Path | None,
        typer.Option(help="Also write which entries were hit, as .safetensors of the same names."),
    ] = None,
    force: Force = False,
) -> None:
    """Contaminate a clean checkpoint with noise of a known kind and amount, to test a repair against the truth.

    Example: depurate contaminate clean.safetensors --noise bitflip:rate=1e-5 --seed 1 --out hit.safetensors
    """
    from depurate.cli.contaminate import Contamination, run_contaminate

    run_contaminate(Contamination(clean, noise, seed, layers, out, mask, force))


class Experiment(StrEnum):
    """What `reproduce` can run."""

    synthetic = "synthetic"
    mnist = "mnist"
    cifar10 = "cifar10"


@app.command()
def reproduce(
    experiment: Annotated[Experiment, typer.Argument(help="Which of the paper's experiments.")],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for records, figures and the page; an interrupted run resumes from it."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: two minutes on 2 cores.")] = False,
    seeds: Annotated[
        int | None, typer.Option(help="Independent runs a cell. Left out: the experiment's own.", min=1)
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time. Left out: one a core.", min=1)] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="dask://HOST:PORT or ray://HOST:PORT, with the extra of that name installed."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Where torchvision keeps its datasets. Left out: $DEPURATE_DATA.")
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Checkpoints for cifar10, used instead of training. Left out: $DEPURATE_MODELS."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Run only this study; give it again for more.")
    ] = None,
    draw: Annotated[bool, typer.Option("--draw", help="Run nothing, draw what is finished.")] = False,
) -> None:
    """Reproduce the paper's experiments: a record a run, figures (PNG and SVG), a page that explains them.

    Seeds are fixed. Records are written as runs finish and reused when their settings are the same, so that an
    interrupted command goes on where it stopped.
    """
    from depurate.cli.reproduce import run_reproduce
    from depurate.reproduce import Settings

    settings = Settings(
        experiment=experiment.value,
        out=out or Path("runs") / experiment.value,
        quick=quick,
        seeds=seeds,
        jobs=jobs,
        cluster=cluster,
        only=tuple(only or ()),
        draw_only=draw,
        data=data,
        models=models,
    )
    run_reproduce(settings)
