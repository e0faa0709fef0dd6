"""Where in a network the recoverable layers are, in the order in which an input reaches them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from depurate.errors import InputError
from depurate.spans.calls import shown
from depurate.spans.derived import geometry_on
from depurate.spans.geometry import Geometry, base_geometry_of
from depurate.spans.modes import kept_modes

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
Collect = Callable[[Tensor, Tensor], None]
_UNSTACKED = " (single pictures, as a Dataset gives, have to be stacked first, or handed in by a DataLoader)"


@dataclass(frozen=True)
class Site:
    """One layer of a network as the walk meets it.

    Attributes:
        name: Module name.
        kind: Class name of the module.
        geometry: How it reads patches; None for BatchNorm.
        calls: Times a forward pass uses it (more than once when it is shared).
        positions: Positions over all its calls, for one image.
    """

    name: str
    kind: str
    geometry: Geometry | None
    calls: int
    positions: int


def find_sites(model: nn.Module, images: Tensor) -> tuple[Site, ...]:
    """Find the layers that recovery covers by running a few images through the network.

    Args:
        model: The network, in evaluation mode.
        images: A few inputs, shape (n, c, h, w).

    Returns:
        Convolutions, dense layers and BatchNorm with running statistics, each at its first use.

    Raises:
        InputError: The network does not accept these images.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
        >>> [(site.name, site.positions) for site in find_sites(net.eval(), torch.zeros(2, 1, 4, 4))]
        [('0', 4), ('1', 4), ('4', 1)]
    """
    found: dict[str, list[_Call | None]] = {}
    uses = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))

    def note(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            found.setdefault(name, []).append(_Call.of(module, shown(inputs, named), len(images)))

        return hook

    handles = [
        module.register_forward_pre_hook(note(name), with_kwargs=True)
        for name, module in model.named_modules()
        if _recoverable(module, uses)
    ]
    try:
        with torch.no_grad():
            model(images.clone())  # some networks change what they are given
    except Exception as error:  # whatever a stranger's network raises
        shape, hint = tuple(images.shape[1:]), _UNSTACKED if images.ndim == 3 else ""
        raise InputError(
            f"the network does not accept images of shape {shape}: {_first_line(error)}{hint}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    kinds = {name: type(model.get_submodule(name)).__name__ for name in found}
    return tuple(
        Site(name, kinds[name], calls[0].geometry, len(calls), sum(call.positions for call in calls))
        for name, calls in _recovered(found)
    )


def run_to(model: nn.Module, site: Site, images: Tensor, collect: Collect, *, need_output: bool) -> None:
    """Run a network only as far as a layer and hand each of that layer's calls to a callback.

    Args:
        model: The network, in evaluation mode.
        site: The layer to stop at, after its last call.
        images: One batch, shape (n, c, h, w).
        collect: Called with (input, output) at every call; the output is the input again if `need_output` is
            False, in which case the layer itself is not computed at its last call.
        need_output: Whether the layer's own output is wanted.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).eval()
        >>> site = find_sites(net, torch.zeros(1, 2))[1]
        >>> run_to(net, site, torch.zeros(4, 2), lambda x, y: print(y.shape), need_output=True)
        torch.Size([4, 1])
    """
    remaining = site.calls
    module = model.get_submodule(site.name)

    def seen(inputs: Tensor, outputs: Tensor) -> None:
        nonlocal remaining
        if remaining == 0:  # the network caught even `_Reached` and went on
            return
        remaining -= 1
        collect(inputs.to(images.dtype), outputs.to(images.dtype))
        if remaining == 0:
            raise _Reached

    def before(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen(shown(inputs, named), shown(inputs, named))

    def after(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        seen(shown(inputs, named), output)

    handle = (
        module.register_forward_hook(after, with_kwargs=True)
        if need_output
        else module.register_forward_pre_hook(before, with_kwargs=True)
    )
    # TF32 convolutions err by 1e-3, which would fill the small directions of a span with noise.
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with torch.no_grad(), exact, kept_modes(), _stopping_at(handle):
        model(images)


@dataclass(frozen=True)
class _Call:
    """One call of a layer: how it reads what it was shown (None for BatchNorm), and its positions for one image."""

    geometry: Geometry | None
    positions: int

    @classmethod
    def of(cls, module: nn.Module, inputs: Tensor, images: int) -> _Call | None:
        """Look at a call; None where the layer turns out to be none that recovery covers."""
        if isinstance(module, BATCH_NORMS):
            geometry, positions = None, inputs[0].numel() // inputs.shape[1]
        elif inputs.ndim < _axes(module):  # one vector, or one picture: no axis of images
            return None
        else:
            geometry = geometry_on(module, inputs)
            if geometry is None:
                return None
            positions = geometry.positions(inputs)
        # The first axis need not be the images: transformers merge it with the tokens or put those first.
        return cls(geometry, -(-positions * len(inputs) // images))


def _recovered(found: Mapping[str, list[_Call | None]]) -> Iterator[tuple[str, list[_Call]]]:
    """Layers with their calls, without those that read their inputs in another way than recovery knows, or in two."""
    for name, seen in found.items():
        calls = [call for call in seen if call is not None]
        if len(calls) == len(seen) and all(call.geometry == calls[0].geometry for call in calls):
            yield name, calls


class _Reached(BaseException):
    """Ends a forward pass; not an Exception, so that no network's own `except Exception` can swallow it."""


@contextmanager
def _stopping_at(handle: Any) -> Iterator[None]:
    try:
        yield
    except _Reached:
        pass
    finally:
        handle.remove()


def _recoverable(module: nn.Module, uses: Counter[int]) -> bool:
    if isinstance(module, BATCH_NORMS):
        return module.running_mean is not None
    # A weight tied to another module would have to fit the patches of both: left alone, and reported as untouched.
    tied = any(uses[id(weight)] > 1 for weight in module.parameters(recurse=False))
    return base_geometry_of(module) is not None and not tied


def _axes(module: nn.Module) -> int:
    """Axes of a batch that a convolution or dense layer is shown."""
    return 2 if isinstance(module, nn.Linear) else module.weight.ndim  # type: ignore[return-value]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
