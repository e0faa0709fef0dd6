"""What tells one entry of the zoo from another: a digest of its content, whatever its files look like."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import torch
from torch import Tensor

from depurate.contamination.attacks import attack_spec, attack_tensors
from depurate.zoo.entry import ZooEntry


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 digest of tensors: names, types, shapes and every bit, in whatever order they come.

    Args:
        tensors: By name, on any device.

    Returns:
        64 hexadecimal digits.

    >>> one, two = torch.zeros(2), torch.ones(3)
    >>> tensors_digest({"a": one, "b": two}) == tensors_digest({"b": two, "a": one})
    True
    >>> tensors_digest({"a": one}) == tensors_digest({"a": -one})
    False
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        # As JSON, so that where one name ends and the next begins is never in doubt.
        found.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def entry_digest(entry: ZooEntry) -> str:
    """Compute the SHA-256 digest of all that a defence on an entry, and its measuring, depend on.

    Args:
        entry: Suspect, anchor, attack with its trigger, and the record's network, dataset and normalisation count;
            its name, and what was measured and noted about it, do not.

    Returns:
        64 hexadecimal digits, the same however often the entry is saved or adopted.
    """
    record, attack = entry.record, entry.attack
    parts = (
        tensors_digest(entry.model.state_dict()),
        tensors_digest(entry.anchor.state_dict()),
        "" if attack is None else attack_spec(attack),
        tensors_digest({} if attack is None else attack_tensors(attack)),
        *(record.network, record.dataset, record.mean, record.deviation),
    )
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
