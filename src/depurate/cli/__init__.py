"""The command `depurate`."""

from depurate.cli.app import main

__all__ = ["main"]
