"""Builds a network by calling what the user's own Python file defines."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from depurate.checkpoints.quoting import quote, quote_few
from depurate.errors import InputError


def build_from_file(path: Path, name: str) -> nn.Module:
    """Run the user's own file and call one of its functions or classes without arguments.

    This executes the file: it is meant for code that the user wrote or trusts, never for what came with
    a suspect.

    Args:
        path: The Python file. Modules beside it can be imported by it.
        name: A callable in it that returns an `nn.Module`, a subclass of `nn.Module`, or a ready `nn.Module`.

    Returns:
        The network.

    Raises:
        InputError: If the file cannot be run, has no such name, or the call fails or returns something else.
    """
    try:
        there = path.is_file()
    except OSError as error:
        raise InputError(f"{quote(str(path))}: cannot be read ({error.strerror})") from error
    if not there:
        raise InputError(f"{quote(str(path))}: no such file")
    with _importable(path.resolve().parent):
        module = _run(path)
        if not name:
            raise InputError(
                f"{path}: say what in it makes the network, as in {path.name}:NAME; it defines {_callables(module)}"
            )
        found = getattr(module, name, None)
        if found is None:
            raise InputError(f"{path}: has no {quote(name)!r}; it defines {_callables(module)}")
        if isinstance(found, nn.Module):
            return found
        if not callable(found):
            raise InputError(
                f"{path}: {name} is a {type(found).__name__}, not callable; it defines {_callables(module)}"
            )
        try:
            model = found()
        # The user's code may raise anything; it is reported with the name of the file.
        except (Exception, SystemExit) as error:
            raise InputError(f"{path}: calling {name}() without arguments failed ({_told(error)})") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"{path}: {name}() returned a {type(model).__name__}, not an nn.Module")
    return model


def _run(path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
    name = f"depurate_architecture_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path}: is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and deepcopy look a class's module up by name.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise InputError(f"{path}: running it failed ({_told(error)})") from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let the file import its neighbours while it runs."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _callables(module: ModuleType) -> str:
    """List the public callables and networks that the file itself defines."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, nn.Module)
            or (callable(value) and getattr(value, "__module__", "") == module.__name__)
        )
    ]
    return quote_few(names) if names else "nothing that can be called"


def _told(error: BaseException) -> str:
    return quote(f"{type(error).__name__}: {error}".splitlines()[0])
