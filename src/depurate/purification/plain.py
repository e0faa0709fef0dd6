"""Parameters and buffers that the walk does not recover: what arrived damaged in them, and what was put there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from depurate.errors import InputError
from depurate.recovery import Guessed, certain_hits, is_mask, unflip_vector
from depurate.spans import BATCH_NORMS, Site, key_of

# More than this is damage of another kind: NaN written over whole words, say.
_HIGHEST_RATE = 1e-3


@dataclass(frozen=True)
class Guess:
    """One parameter or buffer in which something was put that may not be what training left.

    Attributes:
        module: Name of the module that holds it.
        what: Its own name, the module's included, and how many of its entries.
        said: What was done, in words.
    """

    module: str
    what: Guessed
    said: str


def mend_plain(
    model: nn.Module, sites: Iterable[Site], anchor: Mapping[str, Tensor], *, damaged: bool
) -> tuple[Guess, ...]:
    """Replace, in place, what certainly is not training's in parameters and buffers that the walk leaves alone.

    Scales and shifts of normalisations that are one bit away from a fitting value take that, in a network that shows
    damage. Other certain hits take the anchor's value; without one, a normalisation's scale becomes 1 and every other
    parameter 0.

    Args:
        model: A working copy.
        sites: The layers that the walk recovers.
        anchor: State of the anchor, may be empty.
        damaged: Whether any tensor holds entries that no training produces.

    Returns:
        One guess for each that was touched.

    Raises:
        InputError: A buffer holds NaN and the anchor has none.

    >>> net = nn.Sequential(nn.LayerNorm(2))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.fill_(float("nan"))
    >>> [guess.said for guess in mend_plain(net, (), {}, damaged=False)]
    ['0.weight: 2 of 2 entries arrived as NaN, Inf or absurdly large and were set to 1']
    """
    flips = tuple(_unflipped(model)) if damaged else ()
    return (*flips, *_filled(model, sites, anchor), *_filled_buffers(model, anchor))


def reached_after(
    model: nn.Module, images: Tensor, modules: Collection[str], sites: Iterable[Site]
) -> frozenset[str]:
    """Name the layers that a network reaches after the first of some modules: they may be shown what it made.

    Args:
        model: In evaluation mode.
        images: A few.
        modules: Names, of those in which something was guessed.
        sites: All layers.

    Returns:
        Names; all where such a module is never called, as then its parameter may be used anywhere.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.Linear(2, 2))
    >>> sites = (Site("0", "Linear", None, 1, 1), Site("2", "Linear", None, 1, 1))
    >>> reached_after(net, torch.zeros(1, 2), ["1"], sites)
    frozenset({'2'})
    """
    if not modules:
        return frozenset()
    names, guessed = {site.name for site in sites}, set(modules)
    calls: list[str] = []
    handles = [
        model.get_submodule(name).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
        for name in names | guessed
    ]
    with torch.no_grad():
        model(images.clone())
    for handle in handles:
        handle.remove()
    if not guessed <= set(calls):
        return frozenset(names)
    first = min(calls.index(name) for name in guessed)
    return frozenset(names.intersection(calls[first:]))


def uncovered(model: nn.Module, purified: nn.Module, sites: Iterable[Site]) -> tuple[str, ...]:
    """Name the parameters passed on as received: unsupported kinds, tied weights, layers never reached.

    >>> net = nn.Sequential(nn.Linear(1, 1))
    >>> uncovered(net, net, ())
    ('0.weight', '0.bias')
    """
    covered = {key_of(site.name, part) for site in sites if site.geometry for part in ("weight", "bias")}
    pairs = ((name, received, purified.get_parameter(name)) for name, received in model.named_parameters())
    return tuple(
        name for name, received, now in pairs if name not in covered and torch.equal(received.to(now), now)
    )


def _filled(model: nn.Module, sites: Iterable[Site], anchor: Mapping[str, Tensor]) -> Iterator[Guess]:
    recovered = {site.name for site in sites if site.geometry is not None}
    for prefix, module in model.named_modules():
        if prefix in recovered:
            continue
        for short, parameter in module.named_parameters(recurse=False):
            bad = certain_hits(parameter)
            if not bool(bad.any()) or is_mask(parameter):
                continue
            name = key_of(prefix, short)
            default = 1 if short == "weight" and "norm" in type(module).__name__.lower() else 0
            with torch.no_grad():
                parameter.copy_(
                    torch.where(bad, anchor.get(name, torch.full_like(parameter, default)), parameter)
                )
            yield Guess(
                prefix,
                Guessed(name, int(bad.sum()), bad.numel()),
                f"{name}: {int(bad.sum()):,} of {bad.numel():,} entries arrived as NaN, Inf or absurdly large and "
                f"were set to {'the anchor' if name in anchor else default}",
            )


def _filled_buffers(model: nn.Module, anchor: Mapping[str, Tensor]) -> Iterator[Guess]:
    """NaN in buffers other than BatchNorm's, which the walk sees to; Inf may be meant, as in masks."""
    for prefix, module in model.named_modules():
        if isinstance(module, BATCH_NORMS):
            continue
        for short, buffer in module.named_buffers(recurse=False):
            bad, name = buffer.isnan(), key_of(prefix, short)
            if not bool(bad.any()):
                continue
            found = f"{name}: {int(bad.sum()):,} of {bad.numel():,} entries arrived as NaN"
            if name not in anchor:
                raise InputError(
                    f"{found}, and nothing tells what this buffer held; an anchor that has it would help"
                )
            buffer.copy_(torch.where(bad, anchor[name].to(buffer), buffer))
            what = Guessed(name, int(bad.sum()), bad.numel())
            yield Guess(prefix, what, f"{found} and were set to the anchor")


def _unflipped(model: nn.Module) -> Iterator[Guess]:
    """Single bits flipped back in scales and shifts of normalisations; how much damage there is says how likely."""
    rate = min(_flip_rate(model), _HIGHEST_RATE)
    for prefix, module in model.named_modules():
        if "norm" not in type(module).__name__.lower():
            continue
        for short, parameter in module.named_parameters(recurse=False):
            restored, done = unflip_vector(parameter.detach().flatten(), rate)
            if bool(done.any()):
                with torch.no_grad():
                    parameter.copy_(restored.view(parameter.shape))
                name = key_of(prefix, short)
                yield Guess(
                    prefix,
                    Guessed(name, int(done.sum()), done.numel()),
                    f"{name}: {int(done.sum()):,} of {done.numel():,} entries are one bit away from "
                    "a fitting value and were restored to it",
                )


def _flip_rate(model: nn.Module) -> float:
    """Estimate the probability of a flip: one of a word's bits, the exponent's highest, always shows."""
    parameters = [*model.parameters()]
    shown = sum(int(certain_hits(parameter).sum()) for parameter in parameters)
    return shown / max(sum(parameter.numel() for parameter in parameters), 1)
