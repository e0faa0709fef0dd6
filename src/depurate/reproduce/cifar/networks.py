"""Networks for CIFAR-10: trained here by the zoo's training, or read from a folder of checkpoints."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from depurate.checkpoints import file_sha256, load_state, read_checkpoint
from depurate.contamination.attacks import Attack, parse_attack
from depurate.errors import InputError
from depurate.zoo import Data, Network, Order, Recipe, make_entry, network
from depurate.zoo.architectures import lenet

ATTACKS = {"clean": None, "badnets": "badnets:rows=28-31,columns=28-31", "blended": "blended"}
"""Attacks by the names that configs use, as spec strings."""
_POISONED = 0.05


@dataclass(frozen=True, eq=False)
class Suspect:
    """A network to contaminate or to purify, and what is known of it.

    Attributes:
        model: In evaluation mode.
        anchor: What training started from.
        kind: Gives the input normalisation.
        attack: With its trigger, or None.
        source: Where it came from, in words.
    """

    model: nn.Module
    anchor: nn.Module
    kind: Network
    attack: Attack | None
    source: str


def small_network() -> nn.Module:
    """LeNet for three colours: two 5x5 convolutions and two dense layers."""
    return lenet((16, 32, 128), channels=3, side=32)


def kind_of(name: str) -> Network:
    """`lenet`, for three colours, or `resnet14` of the zoo."""
    return Network("lenet", small_network, small_network, 0.47, 0.25) if name == "lenet" else network(name)


def recipe_of(name: str, *, quick: bool) -> Recipe:
    """How to train: some minutes, or seconds with `quick`."""
    if quick:
        return Recipe(epochs=3, batch=64, rate=0.05, images=4000)
    if name == "lenet":
        return Recipe(epochs=5, batch=64, rate=0.03, images=20_000)
    return Recipe(epochs=2, batch=64, rate=0.1, decay=5e-4, one_cycle=True, flips=True)


def given_files(models: Path | None, name: str, attack: str) -> tuple[Path, Path] | None:
    """MODELS/resnet14-cifar10/{badnets,init}.safetensors and the like, where both are there."""
    if models is None:
        return None
    files = (
        models / f"{name}-cifar10" / f"{attack}.safetensors",
        models / f"{name}-cifar10" / "init.safetensors",
    )
    return files if all(path.exists() for path in files) else None


def kept_files(
    folder: Path | None, name: str, attack: str, recipe: Recipe, seed: int, data: str
) -> tuple[Path, Path] | None:
    """Where a network trained here and its initialisation are kept; the names change with how and on what it is."""
    if folder is None:
        return None
    made_of = f"{recipe} {ATTACKS[attack]} {seed} {data}"
    trained = f"{name}-{attack}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    return folder / f"{trained}.safetensors", folder / f"{trained}-init.safetensors"


def keep(suspect: Suspect, files: tuple[Path, Path]) -> None:
    """Write a network trained here and its initialisation, so that other runs need not train it again.

    Raises:
        InputError: They cannot be written.
    """
    try:
        files[0].parent.mkdir(parents=True, exist_ok=True)
        # The network comes last: where it is there, so is its initialisation.
        for path, model in zip(reversed(files), (suspect.anchor, suspect.model), strict=True):
            partial = path.with_name(f".{secrets.token_hex(8)}.partial")
            save_file({key: value.contiguous() for key, value in model.state_dict().items()}, partial)
            partial.replace(path)
    except OSError as error:
        raise InputError(f"{files[0].parent}: a trained network cannot be kept there ({error})") from error


def digest(path: Path) -> str:
    """SHA-256 of a file, its first 16 digits."""
    return file_sha256(path)[:16]


def read_network(files: tuple[Path, Path], name: str, attack: str, source: str) -> Suspect:
    """Read a network and its initialisation.

    Raises:
        InputError: A file is damaged or does not fit the network.
    """
    kind = kind_of(name)
    model, anchor = (
        load_state(kind.build(), read_checkpoint(path), source=str(path)).eval() for path in files
    )
    return Suspect(model, anchor, kind, _attack(attack), source)


def train_suspect(data: Data, name: str, attack: str, recipe: Recipe, seed: int) -> Suspect:
    """Train a network on clean or poisoned images."""
    kind = kind_of(name)
    order = Order("cifar10", attack, _attack(attack), _POISONED, seed, recipe)
    entry = make_entry(order, kind, data)
    return Suspect(entry.model, entry.anchor, kind, entry.attack, trained_words(recipe))


def trained_words(recipe: Recipe) -> str:
    """How a network was trained here, for the table."""
    images = "all" if recipe.images is None else f"{recipe.images:,}"
    return f"trained on {images} images, {recipe.epochs} epochs"


def _attack(name: str) -> Attack | None:
    spec = ATTACKS[name]
    return None if spec is None else parse_attack(spec)
