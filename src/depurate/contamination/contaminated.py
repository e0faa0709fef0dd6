"""What contamination returns: the new values, and the truth to score a repair against."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Contaminated:
    """One tensor after contamination, and the truth about it.

    Attributes:
        values: Shape and dtype of the clean values.
        mask: The entries that were hit, same shape, bool. All others are the clean ones bit for bit.
        clean: The values before, the very tensor that was given.
    """

    values: Tensor
    mask: Tensor
    clean: Tensor


@dataclass(frozen=True, eq=False)
class ContaminatedState:
    """A checkpoint after contamination, tensor by tensor under the names it had.

    Attributes:
        values: Every tensor of the checkpoint, those not selected among them.
        mask: The entries that were hit, for the tensors that were selected.
        clean: Every tensor before, the very ones that were given.
    """

    values: dict[str, Tensor]
    mask: dict[str, Tensor]
    clean: dict[str, Tensor]
