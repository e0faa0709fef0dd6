"""What trials of a recovery share, made once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Made = TypeVar("Made")


class Latest:
    """Keeps the latest of each kind of thing that was made, and gives it again while the same is asked for.

    Example:
        >>> latest = Latest()
        >>> [latest.of("copies", images, lambda: images + 100) for images in (1, 1, 2)]
        [101, 101, 102]
    """

    def __init__(self) -> None:
        self._made: dict[Hashable, tuple[Hashable, Any]] = {}

    def of(self, kind: Hashable, asked: Hashable, make: Callable[[], Made]) -> Made:
        """Make a thing, unless the latest of its kind was made for the same.

        Args:
            kind: Of thing.
            asked: What it is made of.
            make: Makes it.

        Returns:
            The thing, which is not to be changed.
        """
        if kind not in self._made or self._made[kind][0] != asked:
            self._made.pop(kind, None)  # before the new one is made: these are large
            self._made[kind] = (asked, make())
        made: Made = self._made[kind][1]
        return made
