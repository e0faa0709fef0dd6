"""Writes a purified state back under the keys and dtypes of the suspect: whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from depurate.checkpoints.checkpoint import Checkpoint
from depurate.checkpoints.prefixes import meet
from depurate.checkpoints.provenance import provenance
from depurate.checkpoints.quoting import quote, quote_few
from depurate.checkpoints.storing import store_tensors
from depurate.errors import InputError

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def check_output(path: str | os.PathLike[str], *, like: Checkpoint) -> Path:
    """Check, before any work is done, that a purified checkpoint can go to `path`.

    Args:
        path: Where it is to be written; must end in `.safetensors`.
        like: The suspect, whose file is never overwritten.

    Returns:
        The file that will be written, symbolic links followed.

    Raises:
        InputError: If the folder is missing or not writable, the name is taken by something else than a file,
            or it leads to the suspect itself.
    """
    if Path(path).suffix != ".safetensors":
        raise InputError(
            f"{path}: the output is written as safetensors; give it a name that ends in .safetensors"
        )
    try:
        target = Path(path).resolve()
        if not target.parent.is_dir():
            raise InputError(f"{path}: its folder {target.parent} does not exist")
        if target.exists() and not target.is_file():
            raise InputError(f"{path}: exists and is not a regular file")
        if target == like.path.resolve() or (
            target.exists() and like.path.exists() and target.samefile(like.path)
        ):
            raise InputError(f"{path}: is the input file itself; the suspect is never overwritten")
    except InputError:
        raise
    # RuntimeError: links in a circle; ValueError: a NUL in the name.
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(f"{path}: cannot be written ({error})") from error
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path}: its folder {target.parent} is not writable")
    return target


def write_checkpoint(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    *,
    like: Checkpoint,
    metadata: Mapping[str, str],
) -> None:
    """Write a purified state as safetensors with exactly the keys and dtypes of the suspect.

    The file appears under its name only once it is complete and on disk. Entries that did not change are
    written bit for bit as the suspect had them, also where the computation went through a wider dtype.

    Args:
        path: Where to; must end in `.safetensors` and must not lead to the suspect.
        state: Purified tensors under the suspect's keys, whatever one of the two has around the network. Those that the
            suspect lacks are dropped, but only `num_batches_tracked` and second names of tensors it has.
        like: The suspect as read.
        metadata: Text to store beside the suspect's own metadata and the provenance.

    Raises:
        InputError: If `path` cannot be used, or `state` does not match the suspect in keys, shapes or range.

    >>> import tempfile
    >>> from depurate.checkpoints.reading import read_checkpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"module.w": torch.ones(2, dtype=torch.float16)}, f"{folder}/suspect.pt")
    ...     suspect = read_checkpoint(f"{folder}/suspect.pt")
    ...     write_checkpoint(f"{folder}/pure.safetensors", {"w": torch.zeros(2)}, like=suspect, metadata={})
    ...     read_checkpoint(f"{folder}/pure.safetensors").state
    {'module.w': tensor([0., 0.], dtype=torch.float16)}
    """
    target = check_output(path, like=like)
    tensors = _unshared(_restore(state, like, source=str(path)))
    for key, value in metadata.items():
        if not (isinstance(key, str) and isinstance(value, str)):
            raise InputError(f"{path}: metadata {key!r} must be text, got {type(value).__name__}")
    # What depurate noted in the suspect's file is true of that file alone, which the provenance names.
    kept = {key: value for key, value in like.metadata.items() if not key.startswith("depurate_")}
    notes = {**kept, "format": "pt", **provenance(like), **metadata}
    store_tensors(target, tensors, notes)


def _restore(state: Mapping[str, Tensor], like: Checkpoint, *, source: str) -> dict[str, Tensor]:
    """Put the state under the suspect's keys, in its order and dtypes."""
    names = meet(like.state.keys(), state.keys())
    missing = [name for name in names.values() if name not in state]
    if missing:
        raise InputError(
            f"{source}: the purified state lacks {len(missing)} of the suspect's keys: {quote_few(missing)}"
        )
    kept = {_storage(state[name]) for name in names.values()}
    extra = [
        key
        for key in state.keys() - set(names.values())
        if not key.endswith("num_batches_tracked") and _storage(state[key]) not in kept
    ]
    if extra:
        raise InputError(
            f"{source}: the purified state has {len(extra)} keys that the suspect lacks: "
            f"{quote_few(sorted(extra))}"
        )
    return {
        key: _cast_back(state[name], like.state[key], f"{source}: {quote(key)}")
        for key, name in names.items()
    }


def _cast_back(value: Tensor, original: Tensor, where: str) -> Tensor:
    """Cast the value to the original's dtype, keeping its very bits wherever nothing changed."""
    if value.shape != original.shape:
        raise InputError(f"{where} has shape {tuple(value.shape)}, the suspect {tuple(original.shape)}")
    value = value.detach().cpu().resolve_conj().resolve_neg()
    if value.dtype == original.dtype:
        return value
    if value.is_floating_point() != original.is_floating_point():
        raise InputError(f"{where} is {value.dtype}, the suspect has {original.dtype}")
    narrow, before = value.to(original.dtype), original.to(value.dtype)
    if value.is_floating_point() and _gained_infinities(value, narrow):
        raise InputError(f"{where} has values too large for the suspect's {original.dtype}")
    same = (value == before) | (value.isnan() & before.isnan())
    bits = _BITS[original.element_size()]
    return torch.where(same, original.contiguous().view(bits), narrow.contiguous().view(bits)).view(
        original.dtype
    )


def _gained_infinities(value: Tensor, narrow: Tensor) -> bool:
    """Whether casting made finite numbers infinite (or NaN, where the dtype has no infinity)."""
    return bool((value.isfinite() & ~narrow.to(value.dtype).isfinite()).any())


def _unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors no two of which share memory, as safetensors wants them."""
    seen: set[int] = set()
    alone = {}
    for key, value in tensors.items():
        packed = value.contiguous()
        if _storage(packed) in seen:
            packed = packed.clone()
        seen.add(_storage(packed))
        alone[key] = packed
    return alone


def _storage(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
