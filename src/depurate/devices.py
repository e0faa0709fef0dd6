"""Where to compute: a device by the name a user gave it."""

from __future__ import annotations

import torch

from depurate.errors import InputError


def device_named(name: str) -> torch.device:
    """Return the device of that name, after something was put on it.

    Args:
        name: `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: There is no such device, or it cannot be used.

    >>> device_named("cpu")
    device(type='cpu')
    >>> device_named("gpu")
    Traceback (most recent call last):
    depurate.errors.InputError: device 'gpu': expected cpu, cuda or cuda:N
    """
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and not number.isdecimal()):
        raise InputError(f"device {name!r}: expected cpu, cuda or cuda:N")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        # torch explains at length, over several lines; the first says what is wrong.
        raise InputError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return device


def taken_on(device: torch.device) -> tuple[str, int]:
    """Wait until a device has done what was asked of it; its name, and the largest memory taken there so far.

    >>> taken_on(torch.device("cpu"))  # whose memory is the process's
    ('cpu', 0)
    """
    if device.type == "cpu":
        return "cpu", 0
    torch.cuda.synchronize(device)
    return torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
