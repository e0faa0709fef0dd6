"""Fills a folder with entries, skipping those that are there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import nn

from depurate.contamination.attacks import attack_spec
from depurate.errors import InputError
from depurate.purification import Progress
from depurate.text_files import make_folder
from depurate.zoo.data import Data
from depurate.zoo.entry import ZooEntry, load_entry, save_entry
from depurate.zoo.making import Order, make_entry, needs_base
from depurate.zoo.networks import Network
from depurate.zoo.record import ZooRecord

CLEAN = "clean"


@dataclass(frozen=True)
class Filled:
    """One entry of the zoo after filling: its folder, and whether it was there before."""

    folder: Path
    entry: ZooEntry
    found: bool


def fill(
    folder: Path,
    orders: Sequence[Order],
    kind: Network,
    data: Callable[[], Data],
    *,
    again: bool = False,
    progress: Callable[[Order], Progress] | None = None,
) -> Iterator[Filled]:
    """Make entries one by one; each is on disk when it is handed out, so that stopping loses one at most.

    Attacks that need a clean network use the folder's own, which is made first where it is missing.

    Args:
        folder: Where entries go; made if missing.
        orders: What to make.
        kind: The network.
        data: Gives the images; called at most once, and only if something is to be made.
        again: Make entries anew that are there already.
        progress: Gives the callback for one order.

    Yields:
        Each entry, in the order asked for.

    Raises:
        InputError: The folder cannot be made, or an entry there is damaged.
    """
    there = folder.exists()
    make_folder(folder)
    try:
        yield from _Filler(folder, kind, _Once(data), again, progress).fill(orders)
    finally:
        # Where nothing came of it, as without the data, no empty folder is left.
        if not there and not any(folder.iterdir()):
            folder.rmdir()


class _Once:
    """Calls a function the first time only; datasets take long to read and may not be needed at all."""

    def __init__(self, read: Callable[[], Data]) -> None:
        self._read = read
        self._data: Data | None = None

    def __call__(self) -> Data:
        if self._data is None:
            self._data = self._read()
        return self._data


@dataclass(frozen=True, eq=False)
class _Filler:
    folder: Path
    kind: Network
    data: _Once
    again: bool
    progress: Callable[[Order], Progress] | None

    def fill(self, orders: Sequence[Order]) -> Iterator[Filled]:
        for order in orders:
            yield self.one(order, again=self.again)

    def one(self, order: Order, *, again: bool) -> Filled:
        place = self.folder / self._name(order)
        if place.exists() and not again:
            there = load_entry(place)
            _check_same(place, order, there.record)
            return Filled(place, there, True)
        # Wished for before anything is trained: the clean network is an entry of its own.
        base = (lambda: self._base(order)) if needs_base(order.attack) else None
        report = None if self.progress is None else self.progress(order)
        entry = make_entry(order, self.kind, self.data(), base=base, progress=report)
        save_entry(entry, place)
        return Filled(place, entry, False)

    def _base(self, order: Order) -> nn.Module:
        clean = replace(order, name=CLEAN, attack=None, fraction=0.0, note="")
        return self.one(clean, again=False).entry.model

    def _name(self, order: Order) -> str:
        return f"{order.dataset}-{self.kind.name}-{order.name}"


def _check_same(place: Path, order: Order, record: ZooRecord) -> None:
    """Refuse an entry that was made to another order; an attack on weights poisons no images."""
    attack = None if order.attack is None else attack_spec(order.attack)
    pairs = {
        "attack": (record.attack, attack),
        "seed": (record.seed, order.seed),
        "epochs": (record.epochs, order.recipe.epochs),
        "fraction": (record.fraction, record.fraction if record.anchor_kind == "base" else order.fraction),
    }
    asked = {name: value for name, value in asdict(order.recipe).items() if name != "epochs"}
    pairs |= {name: (record.settings[name], asked[name]) for name in asked if name in record.settings}
    other = [
        f"{name} {found} instead of {wanted}" for name, (found, wanted) in pairs.items() if found != wanted
    ]
    if other:
        raise InputError(
            f"{place}: is there already, with {', '.join(other)}; give another name or folder, or --force"
        )
