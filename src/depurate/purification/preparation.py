"""Working copies: the suspect and the anchor brought into a form that recovery can work on, and back again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from depurate.errors import InputError
from depurate.recovery import certain_hits, hit_statistics, read_statistics, unflip_vector
from depurate.spans import BATCH_NORMS, Site

# Rounding that training leaves in weights of each precision, relative to their size.
_ROUNDING = {torch.float64: 1e-11, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 5e-2}

# More than this is damage of another kind: NaN written over whole words, say.
_HIGHEST_RATE = 1e-3


def working_copy(model: nn.Module, *, double: bool) -> nn.Module:
    """Copy a network into evaluation mode and a precision that computes well everywhere.

    Args:
        model: Left as it is.
        double: Whether to compute in float64; else half precision becomes float32 and the rest stays.

    Returns:
        The copy, without gradients.

    Raises:
        InputError: The network has no floating-point parameter.
    """
    narrow = precision_of(model) in (torch.float16, torch.bfloat16)
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    return copied.double() if double else copied.float() if narrow else copied


def precision_of(model: nn.Module) -> torch.dtype:
    """Return the dtype of a network's first floating-point parameter.

    Raises:
        InputError: There is none.

    >>> precision_of(nn.Linear(1, 1).half())
    torch.float16
    """
    for parameter in model.parameters():
        if parameter.is_floating_point():
            return parameter.dtype
    raise InputError("the network has no floating-point parameters: nothing to purify")


def rounding_of(model: nn.Module) -> float:
    """Return the relative rounding that training leaves in weights of a network's precision.

    >>> rounding_of(nn.Linear(1, 1).double())
    1e-11
    """
    return _ROUNDING.get(precision_of(model), 1e-5)


def like_the_original(model: nn.Module, purified: nn.Module) -> nn.Module:
    """Put purified weights into a copy of the network that was handed in, with its dtypes, device and modes."""
    copied = copy.deepcopy(model)
    copied.load_state_dict(purified.state_dict())
    return copied


def anchor_state(anchor: nn.Module | Mapping[str, Tensor] | None, model: nn.Module) -> dict[str, Tensor]:
    """Return the anchor's tensors on the suspect's device, checked against the suspect's names and shapes.

    Args:
        anchor: Network, state dict or None.
        model: The suspect.

    Returns:
        Tensors by name; empty when the anchor is unknown.

    Raises:
        InputError: No name matches, a shape differs, or a value is NaN or Inf.

    >>> sorted(anchor_state(nn.Linear(2, 1), nn.Linear(2, 1)))
    ['bias', 'weight']
    """
    if anchor is None:
        return {}
    given = anchor.state_dict() if isinstance(anchor, nn.Module) else dict(anchor)
    wanted = model.state_dict()
    shared = {name: value for name, value in given.items() if name in wanted and isinstance(value, Tensor)}
    if not shared:
        raise InputError(
            f"anchor: none of its {len(given)} names is in the network (first: {next(iter(given), '-')})"
        )
    for name, value in shared.items():
        if value.shape != wanted[name].shape:
            raise InputError(
                f"anchor: {name} is {tuple(value.shape)}, the suspect's is {tuple(wanted[name].shape)}"
            )
        bad = int((~value.isfinite()).sum()) if value.is_floating_point() else 0
        if bad:
            raise InputError(f"anchor: {name} has {bad} NaN or Inf entries; an anchor must be clean")
    return {name: value.detach().to(wanted[name].device) for name, value in shared.items()}


def working_damage(model: nn.Module) -> bool:
    """Tell whether any tensor of a network holds entries that no training produces.

    Parameters, and variances by their roots: running means are judged with them by the walk.

    >>> working_damage(nn.Linear(2, 2))
    False
    """
    if any(bool(certain_hits(parameter).any()) for parameter in model.parameters()):
        return True
    return any(
        bool(hit_statistics(*read_statistics(module)).any())
        for module in model.modules()
        if isinstance(module, BATCH_NORMS) and module.running_mean is not None
    )


def fill_plain_parameters(
    model: nn.Module, sites: Iterable[Site], anchor: Mapping[str, Tensor]
) -> tuple[str, ...]:
    """Replace certain hits, in place, in parameters that the walk does not recover.

    They take the anchor's value; without one, a normalisation's scale becomes 1 and everything else 0.

    Args:
        model: A working copy.
        sites: The layers that the walk recovers.
        anchor: State of the anchor, may be empty.

    Returns:
        One sentence a parameter that was touched.

    >>> net = nn.Sequential(nn.LayerNorm(2))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.fill_(float("nan"))
    >>> fill_plain_parameters(net, (), {})
    ('0.weight: 2 of 2 entries arrived as NaN, Inf or absurdly large and were set to 1',)
    """
    said, recovered = [], {site.name for site in sites if site.geometry is not None}
    for prefix, module in model.named_modules():
        if prefix in recovered:
            continue
        for short, parameter in module.named_parameters(recurse=False):
            bad = certain_hits(parameter)
            if not bool(bad.any()):
                continue
            name = f"{prefix}.{short}" if prefix else short
            default = 1 if short == "weight" and "norm" in type(module).__name__.lower() else 0
            with torch.no_grad():
                parameter.copy_(
                    torch.where(bad, anchor.get(name, torch.full_like(parameter, default)), parameter)
                )
            said.append(
                f"{name}: {int(bad.sum()):,} of {bad.numel():,} entries arrived as NaN, Inf or absurdly large and "
                "were set to "
                f"{'the anchor' if name in anchor else default}"
            )
    return tuple(said)


def unflip_plain_parameters(model: nn.Module) -> tuple[str, ...]:
    """Flip single bits back, in place, in scales and shifts of normalisations, which the walk does not recover.

    Args:
        model: A working copy of a network that shows damage; how much of it says how likely a flip is.

    Returns:
        One sentence a parameter that was touched.

    >>> net = nn.Sequential(nn.BatchNorm1d(16))
    >>> with torch.no_grad():
    ...     net[0].weight.copy_(1 + 0.01 * torch.arange(16))[3] *= 2.0**-32
    >>> unflip_plain_parameters(net)
    ('0.weight: 1 of 16 entries are one bit away from a fitting value and were restored to it',)
    """
    said = []
    rate = min(_flip_rate(model), _HIGHEST_RATE)
    for prefix, module in model.named_modules():
        if "norm" not in type(module).__name__.lower():
            continue
        for short, parameter in module.named_parameters(recurse=False):
            restored, done = unflip_vector(parameter.detach().flatten(), rate)
            if bool(done.any()):
                with torch.no_grad():
                    parameter.copy_(restored.view(parameter.shape))
                said.append(
                    f"{prefix}.{short}: {int(done.sum()):,} of {done.numel():,} entries are one bit away from a "
                    "fitting value and were restored to it"
                )
    return tuple(said)


def _flip_rate(model: nn.Module) -> float:
    """Estimate the probability of a flip: one of a word's bits, the exponent's highest, always shows."""
    parameters = [*model.parameters()]
    shown = sum(int(certain_hits(parameter).sum()) for parameter in parameters)
    return shown / max(sum(parameter.numel() for parameter in parameters), 1)


def uncovered(model: nn.Module, purified: nn.Module, sites: Iterable[Site]) -> tuple[str, ...]:
    """Name the parameters passed on as received: unsupported kinds, tied weights, layers never reached.

    >>> net = nn.Sequential(nn.Linear(1, 1))
    >>> uncovered(net, net, ())
    ('0.weight', '0.bias')
    """
    covered = {f"{site.name}.{part}" for site in sites if site.geometry for part in ("weight", "bias")}
    return tuple(
        name
        for name, received in model.named_parameters()
        if name not in covered and torch.equal(received, purified.get_parameter(name))
    )
