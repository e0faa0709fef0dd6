"""Builds the network that a checkpoint belongs to, by name or from the user's own file."""

from __future__ import annotations

import difflib
import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from depurate.checkpoints.checkpoint import Checkpoint
from depurate.checkpoints.factories import build_from_file
from depurate.checkpoints.loading import match_names
from depurate.checkpoints.quoting import quote
from depurate.checkpoints.torchvision_import import import_torchvision
from depurate.errors import InputError

_FORMS = "torchvision:NAME, timm:NAME or FILE.py:FACTORY"
_NOT_YET = {".pt2": "torch.export programs", ".onnx": "ONNX files"}


def load_architecture(spec: str, *, state: Checkpoint | Mapping[str, Tensor] | None = None) -> nn.Module:
    """Build an untrained network, downloading nothing.

    Args:
        spec: `torchvision:resnet18`, `timm:NAME`, or `FILE.py:factory`, where the user's own file is executed
            and `factory` is called without arguments.
        state: The weights that are to go in. Where only the shape of the classifier differs from the named
            network's default, the network is built with that many classes.

    Returns:
        The network in evaluation mode. The global random state is left as it was.

    Raises:
        InputError: If the spec is not understood, the library is missing, or building fails.

    >>> load_architecture("resnet18")
    Traceback (most recent call last):
    depurate.errors.InputError: resnet18: not an architecture; give torchvision:NAME, timm:NAME or
    FILE.py:FACTORY
    """
    source, colon, name = spec.rpartition(":")
    suffix = Path(spec).suffix.lower()
    if suffix in _NOT_YET:
        raise InputError(f"{spec}: {_NOT_YET[suffix]} are not supported yet; give {_FORMS}")
    with torch.random.fork_rng(devices=[]):
        if source == "torchvision":
            model = _fit_classes(_torchvision_builder(name), state)
        elif source == "timm":
            model = _fit_classes(_timm_builder(name), state)
        elif colon and source.endswith(".py"):
            model = build_from_file(Path(source), name)
        elif suffix == ".py":
            model = build_from_file(Path(spec), "")
        else:
            raise InputError(f"{quote(spec)}: not an architecture; give {_FORMS}")
    return model.eval()


def _torchvision_builder(name: str) -> Callable[[int | None], nn.Module]:
    models = import_torchvision("models")
    # Only classifiers: the others fetch a pretrained backbone by default.
    _check_known(f"torchvision:{name}", name.lower(), models.list_models(module=models))

    def build(classes: int | None) -> nn.Module:
        options = {} if classes is None else {"num_classes": classes}
        with warnings.catch_warnings():
            # Some tell of changes in how they draw initial weights, which a checkpoint replaces.
            warnings.simplefilter("ignore", FutureWarning)
            model: nn.Module = models.get_model(name, weights=None, **options)
        return model

    return build


def _timm_builder(name: str) -> Callable[[int | None], nn.Module]:
    try:
        timm = importlib.import_module("timm")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise InputError(
            f"timm:{name}: timm cannot be imported ({error}); install it with: pip install timm"
        ) from error
    # Names such as hf-hub:... would be downloaded; only those that timm defines itself are built.
    _check_known(f"timm:{name}", name.partition(".")[0], timm.list_models())

    def build(classes: int | None) -> nn.Module:
        options = {} if classes is None else {"num_classes": classes}
        model: nn.Module = timm.create_model(name, pretrained=False, **options)
        return model

    return build


def _check_known(spec: str, name: str, known: list[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"{quote(spec)}: no such classifier{hint}")


def _fit_classes(
    build: Callable[[int | None], nn.Module], state: Checkpoint | Mapping[str, Tensor] | None
) -> nn.Module:
    """Build the default network, or one with the classes of the state where nothing else differs."""
    model = build(None)
    classes = None if state is None else _classes_in(state, model.state_dict())
    return model if classes is None else build(classes)


def _classes_in(state: Checkpoint | Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int | None:
    """Tell the classes of the state, where only first dimensions differ and all to the same number."""
    weights = match_names(state, expected.keys())
    differing = [
        (weights[key].shape, value.shape)
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    heads = {found[:1] for found, wanted in differing if len(found) > 0 and found[1:] == wanted[1:]}
    if len(heads) != 1 or any(found[1:] != wanted[1:] or not found for found, wanted in differing):
        return None
    return int(heads.pop()[0])
