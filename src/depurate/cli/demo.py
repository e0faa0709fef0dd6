"""`depurate demo`: both halves of the demo, told in the terminal, with the files to play on."""

from __future__ import annotations

import json
import shlex
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.text import Text

from depurate.checkpoints import store_tensors
from depurate.cli.console import agreement_words, guarantee_text, layer_table, progress_bars
from depurate.demo import (
    ATTACK,
    Backdoored,
    Digits,
    ExactDemo,
    Rates,
    purify_backdoored,
    rates,
    read_digits,
    run_exact,
    train_backdoored,
)
from depurate.errors import InputError
from depurate.purification import PurifyResult
from depurate.text_files import write_text

_FRACTION = 0.3


def run_demo(out: Path, seed: int) -> None:
    """Run the demo and leave its files in a folder.

    Args:
        out: Folder, made if missing; files of an earlier demo in it are replaced.
        seed: Of every random choice.

    Raises:
        InputError: The folder cannot be made or holds something else.
    """
    console = Console(highlight=False)
    _prepare(out)
    digits = read_digits(seed)
    console.print(Text("1. Exact recovery: the paper's network on sheets of real digits", style="bold"))
    with _waiting(console, "training, contaminating, recovering"):
        exact = run_exact(digits, fraction=_FRACTION, seed=seed)
    _tell_exact(console, exact)
    console.print(
        Text("\n2. Soft recovery: a deep network with a backdoor, purified without labels", style="bold")
    )
    with _waiting(console, "training a network with a backdoor"):
        network = train_backdoored(digits, seed=seed)
    with progress_bars(Console(stderr=True)) as progress:
        result = purify_backdoored(network, digits, seed=seed, progress=progress)
    before, after = rates(network.suspect, digits), rates(result.model, digits)
    _tell_backdoor(console, result, before, after)
    _write_files(out, network, digits, result)
    figures = {"exact": asdict(exact), "before": asdict(before), "after": asdict(after)}
    write_text(out / "demo.json", json.dumps(figures, indent=2))
    _tell_next(console, out, seed)


def _waiting(console: Console, what: str) -> AbstractContextManager[object]:
    return console.status(what) if console.is_terminal else nullcontext()


def _prepare(out: Path) -> None:
    network = (files("depurate.demo") / "network.py").read_bytes()
    try:
        if out.exists() and not (out.is_dir() and _of_a_demo(out, network)):
            raise InputError(f"{out}: exists and is not a folder of an earlier demo; choose another --out")
        out.mkdir(parents=True, exist_ok=True)
        (out / "network.py").write_bytes(network)
    except OSError as error:
        raise InputError(f"{out}: cannot be made ({error.strerror})") from error


def _of_a_demo(out: Path, network: bytes) -> bool:
    """Whether a folder is empty or what a demo left, be it one of another version or one that was interrupted."""
    left = out / "network.py"
    if not any(out.iterdir()) or ((out / "demo.json").is_file() and left.is_file()):
        return True
    return left.is_file() and left.read_bytes() == network


def _tell_exact(console: Console, demo: ExactDemo) -> None:
    done, of = demo.certified
    console.print(
        f"   {demo.fraction:.0%} of all weights hit; worst kernel off by {demo.hit:.0f} times its size"
    )
    console.print(f"   recovered in {demo.seconds:.1f} s, {done} of {of} weight vectors certified exact")
    console.print(
        f"   relative error: kernels W (worst of 500) [green]{demo.kernels:.1e}[/],"
        f" output β [green]{demo.output:.1e}[/]"
    )


def _tell_backdoor(console: Console, result: PurifyResult, before: Rates, after: Rates) -> None:
    console.print(layer_table(result.layers))
    console.print(f"   on 400 test digits; the trigger is {ATTACK!r}", soft_wrap=True)
    console.print(f"   {'':14}{'accuracy':>10}{'attack success':>17}")
    for name, rate in (("suspect", before), ("purified", after)):
        console.print(f"   {name:14}{rate.accuracy:>10.1%}{rate.attack_success:>17.1%}")
    record = result.record
    if record.agreement is not None:
        console.print(Text(f"   {agreement_words(record.agreement)}"))
    console.print(Text("   guarantee: ").append_text(guarantee_text(record.guarantee)))
    for warning in record.warnings:
        console.print(Text(f"   warning: {warning}", style="yellow"))


def _write_files(out: Path, network: Backdoored, digits: Digits, result: PurifyResult) -> None:
    for name, model in (("suspect", network.suspect), ("anchor", network.anchor)):
        store_tensors(out / f"{name}.safetensors", model.state_dict(), {"format": "pt"})
    np.savez_compressed(out / "benign.npz", images=digits.benign.numpy())
    result.save(out / "purified.safetensors")
    result.write_report(
        out / "report.html",
        title="Demo: digits with a BadNets backdoor",
        source={"command": "depurate demo", "data": "handwritten digits of scikit-learn"},
    )


def _tell_next(console: Console, out: Path, seed: int) -> None:
    # Commands are to be copied: quoted as a shell wants it, and never wrapped.
    suspect, anchor, arch, images = (
        shlex.quote(str(out / name))
        for name in ("suspect.safetensors", "anchor.safetensors", "network.py:digits_network", "benign.npz")
    )
    again = f"--images {images} --seed {seed} --out by-hand.safetensors"
    console.print(Text(f"\nReport: {out / 'report.html'}. The same by hand:", style="bold"), soft_wrap=True)
    for command in (f"inspect {suspect} --anchor {anchor}", f"purify {suspect} --arch {arch} {again}"):
        console.print(Text(f"   depurate {command}"), soft_wrap=True)
