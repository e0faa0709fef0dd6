"""The result of a purification: the network, the account, and the files a user takes away."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from torch import nn

from depurate.checkpoints import Checkpoint, write_checkpoint
from depurate.recovery import LayerRecord, PurifyRecord
from depurate.report import write_report

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class PurifyResult:
    """A purified network with the account of how it was purified.

    Attributes:
        model: The purified network, in the dtype, device and mode of the one that was handed in.
        record: The whole account.
    """

    model: nn.Module
    record: PurifyRecord

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """What was found, done and guaranteed, layer by layer in forward order."""
        return self.record.layers

    def save(self, path: str | os.PathLike[str], *, like: Checkpoint | None = None) -> None:
        """Write the purified weights as safetensors, atomically.

        Args:
            path: Ends in `.safetensors`.
            like: The suspect as read, whose keys and dtypes the file takes; default those of `model`.

        Raises:
            InputError: The path cannot be used.
        """
        state = self.model.state_dict()
        origin = like or Checkpoint(Path("in memory"), dict(state), "torch", (), "", {}, sha256="in memory")
        notes = {"depurate_method": self.record.method, "depurate_guarantee": str(self.record.guarantee)}
        write_checkpoint(path, state, like=origin, metadata=notes)

    def write_report(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "Purified network",
        source: Mapping[str, str] = _NOTHING,
    ) -> None:
        """Write the account as one HTML page that needs nothing else.

        Args:
            path: Where to.
            title: Heading, such as the suspect's file name.
            source: Rows of provenance to show: files, digests, the command.

        Raises:
            InputError: The folder does not exist.
        """
        write_report(path, self.record, title=title, source=source)

    def to_json(self, *, source: Mapping[str, str] = _NOTHING) -> str:
        """Return the account as JSON text.

        Args:
            source: Rows of provenance to add as `source`: files, digests, the command.
        """
        account = self.record.to_dict() | ({"source": dict(source)} if source else {})
        return json.dumps(account, indent=2, allow_nan=False, default=str)
