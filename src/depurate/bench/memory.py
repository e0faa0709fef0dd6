"""Memory that this process takes, from now on where the system can say so."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

_STATUS, _FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def restart_peak() -> int:
    """Forget the largest memory so far, where the system can.

    Returns:
        Bytes in use now; without /proc the largest so far.
    """
    # Not everywhere writable; the peak is then that of the whole process so far.
    with suppress(OSError):
        if _FORGET.exists():
            _FORGET.write_text("5")
    return _bytes("VmRSS")


def peak_memory() -> int:
    """Bytes of the largest memory since `restart_peak`; where the system cannot forget, since the process began.

    The usage that `resource` knows is the last resort: it counts the process that this one was forked from, too.
    """
    return _bytes("VmHWM")


def _bytes(name: str) -> int:
    if not _STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
