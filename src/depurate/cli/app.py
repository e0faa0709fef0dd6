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
    "a purified checkpoint and an honest report out. No labels needed.\n\n"
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
# What every generator of random numbers takes, torch's and scikit-learn's.
_MOST = 2**32 - 1
Seed = Annotated[int, typer.Option(help="Of every random choice.", min=0, max=_MOST)]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda or cuda:N.")]
Force = Annotated[
    bool, typer.Option("--force", help="Overwrite output files that exist (never the suspect).")
]


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


bench = typer.Typer(no_args_is_help=True, help="Run depurate side by side with its rivals.")
app.add_typer(bench, name="bench")


@bench.command()
def solver(
    out: Annotated[Path, typer.Option(help="Folder for solver.json, solver.md and solver.svg.")] = Path(
        "runs/solver"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="Three small problems, a few minutes.")] = False,
    columns: Annotated[int, typer.Option(help="Columns every rival solves.", min=1)] = 1,
    limit: Annotated[
        float, typer.Option(help="CPU seconds a rival may take for one problem.", min=1)
    ] = 120.0,
    threads: Annotated[int, typer.Option(help="Threads for every process.", min=1)] = 1,
    design: Annotated[
        list[Path] | None, typer.Option(help="An .npz with an array `design`, run beside the Gaussian ones.")
    ] = None,
    rivals: Annotated[
        str | None, typer.Option(help="Names separated by commas; '' for none. Left out: all.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Run only problems of this many rows: 800,2304. Left out: all.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Solve the same l1 regressions with depurate and with every solver one can install, one process each.

    The rivals come with the extra `bench`; those that are not installed are named in the table. With a GPU as
    --device depurate runs there as well, in a column of its own.
    """
    from depurate.bench.solver import chosen, run
    from depurate.devices import device_named

    device_named(device)
    problems, names = chosen(quick, design or (), only, rivals)
    run(
        out,
        problems=problems,
        rivals=names,
        columns=columns,
        limit=limit,
        threads=threads,
        device=device,
        progress=lambda line: typer.echo(line, err=True),
    )
    typer.echo((out / "solver.md").read_text())


@bench.command()
def defences(
    zoo: Annotated[Path, typer.Option(help="Folder of networks, each in a folder of its own.")],
    data: Annotated[
        Path, typer.Option(help="Where torchvision's datasets lie, or cifar10/test.zip (class folders).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the records and leaderboard.{md,html,svg}.")] = Path(
        "runs/defences"
    ),
    models: Annotated[str, typer.Option(help="Networks of the zoo, wildcards allowed: 'mnist-*'.")] = "*",
    defences: Annotated[
        str,
        typer.Option(
            "--defences",
            help="Any of ft, fp, nad, anp, clp, i-bau, ft-sam, rnp, bcu (labels or images), reset, low-rank, "
            "anchor-average (weights alone), depurate, depurate-anchor; with settings: anp:iterations=200.",
        ),
    ] = "ft,fp,nad,anp,clp,i-bau,ft-sam,rnp,bcu,reset,low-rank,anchor-average,depurate,depurate-anchor",
    noise: Annotated[
        str,
        typer.Option(
            help="Noise put on clean networks, as for contaminate: 'bitflip:rate=1e-5,sparse:rate=0.1'."
        ),
    ] = "",
    labels: Annotated[
        str, typer.Option(help="Labelled images for the defences that need labels: 500 or 500,2500.")
    ] = "500",
    images: Annotated[int, typer.Option(help="Unlabelled images for those that need none.", min=1)] = 500,
    seed: Annotated[
        int, typer.Option(help="Of the images' order and every random choice.", min=0, max=_MOST)
    ] = 0,
    limit: Annotated[float, typer.Option(help="Seconds a defence may take.", min=1)] = 3600.0,
    threads: Annotated[int, typer.Option(help="Threads for every process.", min=1)] = 1,
    redo: Annotated[
        str,
        typer.Option(
            help="Defences to run again although they have a record: depurate,depurate-anchor. Until the new one is "
            "there the old one is kept as .old and not shown."
        ),
    ] = "",
    device: Device = "cpu",
) -> None:
    """Run every defence on every network, one process and one JSON record each, and render a leaderboard.

    What has a record already is not run again, as long as network, anchor, attack and images are still the same;
    records of others are left out of the leaderboard. No defence sees the images that are measured on, and nothing is
    chosen by attack success. Networks come from the zoo, or from [bold]depurate bench adopt[/bold].
    """
    from depurate.cli.bench_defences import plan_of, run_defences

    plan = plan_of(
        zoo, data, out, models, defences, noise, labels, images, seed, limit, threads, redo, device
    )
    sys.exit(run_defences(plan))


@bench.command()
def adopt(
    suspect: Suspect,
    anchor: Annotated[Path, typer.Option(help="The initialisation that it was trained from.")],
    network: Annotated[str, typer.Option(help="Architecture of the zoo: lenet, resnet14, preact_resnet18.")],
    dataset: Annotated[str, typer.Option(help="mnist or cifar10.")],
    data: Annotated[Path, typer.Option(help="Where the dataset lies.")],
    zoo: Annotated[Path, typer.Option(help="Folder of networks to put it into.")],
    name: Annotated[str, typer.Option(help="Its name there.")],
    attack: Annotated[
        str | None,
        typer.Option(
            help="Its backdoor, such as badnets:rows=24-27,columns=24-27,target=0. A clean one: none."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an entry of that name.")] = False,
) -> None:
    """Put a checkpoint from elsewhere into a folder of networks for [bold]depurate bench defences[/bold]."""
    from depurate.cli.bench_defences import run_adopt

    run_adopt(suspect, anchor, name, dataset, network, attack, data, zoo, force=force)


zoo = typer.Typer(no_args_is_help=True, help="Train contaminated networks whose attack and anchor are known.")
app.add_typer(zoo, name="zoo")

ZooDataset = Annotated[str, typer.Option(help="[bold]mnist[/bold] or [bold]cifar10[/bold].")]
ZooNetwork = Annotated[
    str | None,
    typer.Option(help="lenet, resnet14 or preact_resnet18. Left out: lenet for mnist, resnet14 for cifar10."),
]
ZooFraction = Annotated[float, typer.Option(help="Share of the training images to poison.", min=0, max=1)]
ZooData = Annotated[
    Path, typer.Option(help="Where torchvision's datasets lie, or cifar10/train.zip and test.zip.")
]
ZooOut = Annotated[Path, typer.Option(help="Folder for the entries; made if missing.")]
ZooEpochs = Annotated[int | None, typer.Option(help="Left out: as the network's recipe says.", min=1)]
ZooImages = Annotated[
    int | None, typer.Option(help="Training images, the first so many. Left out: the recipe.", min=1)
]
ZooPrecision = Annotated[
    str | None,
    typer.Option(help="float32 or bfloat16 (faster where the processor has it). Left out: the recipe."),
]


@zoo.command("train")
def zoo_train(
    spec: Annotated[
        str, typer.Argument(help="Attack, such as [bold]wanet:strength=1,target=3[/bold]; or clean.")
    ],
    data: ZooData,
    dataset: ZooDataset = "mnist",
    network: ZooNetwork = None,
    fraction: ZooFraction = 0.05,
    seed: Seed = 0,
    out: ZooOut = Path("zoo"),
    name: Annotated[str | None, typer.Option(help="Name within the zoo. Left out: the attack's.")] = None,
    epochs: ZooEpochs = None,
    images: ZooImages = None,
    device: Device = "cpu",
    precision: ZooPrecision = None,
    force: Force = False,
) -> None:
    """Train one network with an attack, and write suspect, anchor, trigger and record into a folder.

    Example: depurate zoo train blended:alpha=0.2 --dataset mnist --data DIR --out zoo
    """
    from depurate.cli.zoo import ZooSettings, run_zoo_train

    settings = ZooSettings(
        dataset, network, fraction, seed, data, out, epochs, images, device, precision, force
    )
    run_zoo_train(spec, name, settings)


@zoo.command("all")
def zoo_all(
    data: ZooData,
    dataset: ZooDataset = "mnist",
    network: ZooNetwork = None,
    fraction: ZooFraction = 0.05,
    seed: Seed = 0,
    out: ZooOut = Path("zoo"),
    only: Annotated[str | None, typer.Option(help="Names of entries, separated by commas.")] = None,
    epochs: ZooEpochs = None,
    images: ZooImages = None,
    device: Device = "cpu",
    precision: ZooPrecision = None,
    force: Force = False,
) -> None:
    """Train every attack of a dataset's zoo that is not in the folder yet, and a clean network.

    Stopping it loses one entry at most; run again, it goes on where it stopped.
    """
    from depurate.cli.zoo import ZooSettings, run_zoo_all

    settings = ZooSettings(
        dataset, network, fraction, seed, data, out, epochs, images, device, precision, force
    )
    run_zoo_all(only, settings)
