"""Makes one entry of the zoo: trains or attacks a network, measures it, and notes what was done."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version

from torch import nn

from depurate.contamination.attacks import Attack, attack_spec, with_tensors
from depurate.contamination.attacks.protocol import (
    ControlsTraining,
    Implants,
    LearnsFromData,
    LearnsFromModel,
    Scores,
)
from depurate.errors import InputError
from depurate.purification import Progress
from depurate.zoo.data import Data
from depurate.zoo.entry import ZooEntry
from depurate.zoo.measuring import accuracy, success
from depurate.zoo.networks import Network
from depurate.zoo.recipes import Recipe
from depurate.zoo.record import ZooRecord
from depurate.zoo.training import Begin, train


@dataclass(frozen=True)
class Order:
    """What to make.

    Attributes:
        dataset: `mnist` or `cifar10`.
        name: Of the attack within the zoo, `clean` for none; the entry is DATASET-NETWORK-name.
        attack: Or None for a clean network.
        fraction: Share of the training images to poison.
        seed: Of every random choice.
        recipe: How to train.
        device: Where to, such as `cpu` or `cuda`.
        note: What was tuned, for the record.
    """

    dataset: str
    name: str
    attack: Attack | None
    fraction: float
    seed: int
    recipe: Recipe
    device: str = "cpu"
    note: str = ""


def needs_base(attack: Attack | None) -> bool:
    """Tell whether an attack needs a clean network of the same task."""
    return isinstance(attack, Implants | LearnsFromModel)


def make_entry(
    order: Order,
    kind: Network,
    data: Data,
    *,
    base: Callable[[], nn.Module] | None = None,
    progress: Progress | None = None,
) -> ZooEntry:
    """Make an entry.

    Args:
        order: What to make.
        kind: The network.
        data: Training and test images.
        base: Gives the clean network, for attacks where `needs_base` holds.
        progress: Called with (what, done, total).

    Returns:
        The entry, measured on all test images.

    Raises:
        InputError: The attack wants a class that there is not.
    """
    started = time.perf_counter()
    target, classes = getattr(order.attack, "target", 0), int(data.labels.max()) + 1
    if not 0 <= target < classes:
        raise InputError(f"{order.name}: target {target}; {data.name} has classes 0 to {classes - 1}")
    kept = data.first(order.recipe.images)
    made = _Maker(order, kind, kept, base, progress).make()
    model, anchor, attack, anchor_kind, poisoned = made
    test, labels = data.test_images, data.test_labels
    model.to(order.device)
    right = accuracy(model, kind, test, labels)
    fooled = None if attack is None else success(model, kind, attack, test, labels)
    model.cpu()
    record = ZooRecord(
        name=f"{data.name}-{kind.name}-{order.name}",
        dataset=data.name,
        network=kind.name,
        attack=None if attack is None else attack_spec(attack),
        anchor_kind=anchor_kind,
        fraction=order.fraction if attack is not None and anchor_kind == "initialisation" else 0.0,
        seed=order.seed,
        epochs=order.recipe.epochs,
        accuracy=round(right, 5),
        success=None if fooled is None else round(fooled, 5),
        seconds=round(time.perf_counter() - started, 1),
        versions={name: version(name) for name in ("depurate", "torch")}
        | {"python": platform.python_version()},
        mean=kind.mean,
        deviation=kind.deviation,
        images=len(kept.images),
        poisoned=poisoned,
        measured=len(test),
        source=data.source,
        device=order.device,
        note=order.note,
        settings=asdict(order.recipe),
    )
    return ZooEntry(model, anchor, attack, record)


Made = tuple[nn.Module, nn.Module, Attack | None, str, int | None]


@dataclass(frozen=True, eq=False)
class _Maker:
    """One making, by the kind of attack: suspect, anchor, attack with its trigger, kind of anchor, poisoned."""

    order: Order
    kind: Network
    data: Data
    base: Callable[[], nn.Module] | None
    progress: Progress | None

    def make(self) -> Made:
        attack, data, seed = self.order.attack, self.data, self.order.seed
        if isinstance(attack, LearnsFromData):
            attack = attack.prepare(data.images, data.labels, seed)
        if isinstance(attack, LearnsFromModel):
            model = self._clean()
            attack = attack.prepare_with(model, self._behind(model), data.images, data.labels, seed)
        if isinstance(attack, Implants):
            device = self.order.device
            suspect, anchor, ready = attack.implant(
                self._clean(),
                self.kind.build_narrow,
                self.kind.normalise,
                data.images.to(device),
                data.labels.to(device),
                seed,
            )
            return suspect, anchor.cpu(), ready, "base", None
        return self._trained(attack)

    def _trained(self, attack: Attack | None) -> Made:
        order, kind, data = self.order, self.kind, self.data
        initial = kind.initialise(order.seed)
        images, labels, poisoned = data.images, data.labels, 0 if attack is None else None
        begin: Begin | None = None
        if isinstance(attack, ControlsTraining):
            begin = partial(attack.lesson, images=data.images, fraction=order.fraction, seed=order.seed)
        elif attack is not None:
            images, labels = attack.poison(images, labels, order.fraction, order.seed)
            poisoned = int((images != data.images).flatten(1).any(1).sum())
        trained = train(
            kind,
            initial,
            order.recipe,
            images.to(order.device),
            labels.to(order.device),
            seed=order.seed,
            begin=begin,
            progress=self.progress,
        )
        if attack is not None and trained.learnt:
            attack = with_tensors(attack, trained.learnt)
        return trained.model, initial.eval(), attack, "initialisation", poisoned

    def _clean(self) -> nn.Module:
        assert self.base is not None
        return copy.deepcopy(self.base()).eval().to(self.order.device)

    def _behind(self, model: nn.Module) -> Scores:
        device = self.order.device
        return lambda pixels: model(self.kind.normalise(pixels.to(device))).to(pixels.device)
