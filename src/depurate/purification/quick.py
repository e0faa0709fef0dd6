"""Ways to compute the same in less time: laid out for convolutions, normalisations folded in, in bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from depurate.analysis import read_scores, scored_by
from depurate.triggers import answers, effort_on, quickly

# How far a folded network's scores may be from the network's own, relative to the largest.
_SAME = 1e-3
# Share of the images that bfloat16 has to answer as float32 does: 25 networks of the zoos answer 0.984 and more so.
_ALIKE = 0.95


def laid_out(model: nn.Module, images: Tensor) -> nn.Module:
    """Lay the weights of a network's convolutions out as they compute fastest (channels last), where it allows that.

    A ResNet-14 answers in half the time so, a ResNet-18 at 224 pixels in two thirds; scores differ by rounding.

    Args:
        model: In evaluation mode; not changed.
        images: Some of what it will be shown, shape (n, c, h, w).

    Returns:
        A copy, or the network itself.

    >>> net = laid_out(nn.Conv2d(3, 2, 3), torch.zeros(1, 3, 8, 8))
    >>> net.weight.is_contiguous(memory_format=torch.channels_last)
    True
    """
    if images.dtype != torch.float32:  # others have no such way
        return model
    try:
        laid = copy.deepcopy(model).to(memory_format=torch.channels_last)
        with torch.no_grad():
            laid(images[:2].clone())
    except Exception:  # volumes have no such layout, and `view` of what a convolution made fails in it
        return model
    return laid


def folded(model: nn.Module, images: Tensor) -> nn.Module:
    """Fold each BatchNorm into the convolution before it, where a network can be read and answers the same afterwards.

    W' = W γ/√(σ² + ε), b' = (b − m) γ/√(σ² + ε) + β: a ResNet-14 and its slopes take a quarter less time so.

    Args:
        model: In evaluation mode; not changed.
        images: Some of what it will be shown, to compare the scores on.

    Returns:
        A copy, or the network itself.

    >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval().requires_grad_(False)
    >>> [type(module).__name__ for module in folded(net, torch.rand(2, 1, 8, 8)).children()]
    ['Conv2d', 'Identity']
    """
    try:
        read = fx.symbolic_trace(copy.deepcopy(model))
        pairs = list(_pairs(read))
        for first, second in pairs:
            convolution, normalisation = read.get_submodule(first), read.get_submodule(second)
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(normalisation, nn.BatchNorm2d)
            read.set_submodule(first, fuse_conv_bn_eval(convolution, normalisation))
            read.set_submodule(second, nn.Identity())
        for ahead in model._forward_pre_hooks.values():  # of `adapted`, which reading loses
            read.register_forward_pre_hook(ahead)
        for behind in model._forward_hooks.values():
            read.register_forward_hook(behind)
        with torch.no_grad():
            before, after = read_scores(model(images[:2])), read_scores(read(images[:2]))
        same = torch.allclose(before, after, rtol=0, atol=_SAME * float(before.abs().max()))
    except Exception:
        return model
    return read if pairs and same else model


def coarsely(model: nn.Module, images: Tensor) -> Callable[[], AbstractContextManager[object]]:
    """Make the context that a network is computed fastest in: bfloat16 where that is faster and answers alike.

    Networks of dense layers alone gain nothing; those whose scores differ by less than bfloat16 tells, or that mix
    kinds of numbers in ways that it does not allow, stay in float32.

    Args:
        model: In evaluation mode; not changed.
        images: Some of what it will be shown, to compare the answers on.

    Returns:
        Makes the context, as often as it is entered.

    >>> with coarsely(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.rand(8, 1, 2, 2))():
    ...     torch.is_autocast_enabled("cpu")
    False
    """
    convolves = any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in model.modules())
    if images.dtype != torch.float32 or not convolves:
        return nullcontext
    score, few = scored_by(model), images[: effort_on(images).judged].detach()
    try:
        with quickly(images):
            if not torch.is_autocast_enabled(images.device.type):
                return nullcontext
            shown = few[:2].clone().requires_grad_()
            torch.autograd.grad(score(shown).sum(), shown, allow_unused=True)
            coarse = answers(score, few)
        exact = answers(score, few)
    except Exception:  # an operation that has no such way, or a network without slopes
        return nullcontext
    alike = float((exact == coarse).double().mean())
    return partial(quickly, images) if alike >= _ALIKE else nullcontext


def _pairs(read: fx.GraphModule) -> Iterator[tuple[str, str]]:
    """Names of each convolution and the BatchNorm that alone reads what it makes, both called once."""
    modules = dict(read.named_modules())
    calls = [node for node in read.graph.nodes if node.op == "call_module"]
    once = {node.target for node in calls if sum(other.target == node.target for other in calls) == 1}
    for node in calls:
        made_by = node.args[0] if node.args else None
        if (
            isinstance(made_by, fx.Node)
            and {node.target, made_by.target} <= once
            and isinstance(modules[node.target], nn.BatchNorm2d)
            and type(modules[str(made_by.target)]) is nn.Conv2d
            and len(made_by.users) == 1
            and modules[node.target].track_running_stats
        ):
            yield str(made_by.target), str(node.target)
