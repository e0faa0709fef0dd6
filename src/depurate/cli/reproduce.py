"""`depurate reproduce`: progress with the time left, and where to look when it is done."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console
from rich.text import Text

from depurate.cli.console import progress_bars
from depurate.reproduce import Settings, reproduce


def run_reproduce(settings: Settings) -> None:
    """Reproduce an experiment and say which files came of it.

    Args:
        settings: What and how.

    Raises:
        InputError: A setting cannot be used, or a file cannot be read or written.
    """
    command = shlex.join(["depurate", *sys.argv[1:]])
    try:
        with progress_bars(Console(stderr=True)) as progress:
            page, *others = reproduce(settings, progress, command)
    except KeyboardInterrupt:
        told = "interrupted; finished runs are kept: the same command goes on, and --draw draws what is there"
        Console(stderr=True, highlight=False).print(Text(told))
        raise
    console = Console(highlight=False)
    console.print(Text(f"page     {page}"))
    for path in others:
        console.print(Text(f"figure   {path}"))
    console.print(Text(f"records  {settings.out / 'records'}"))
