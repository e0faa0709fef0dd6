"""What every kind of noise has in common: a spec string, and tensors or whole checkpoints to apply it to."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, overload

import torch
from torch import Generator, Tensor

from depurate.contamination.contaminated import Contaminated, ContaminatedState
from depurate.contamination.laws import law_terms
from depurate.contamination.selection import selected
from depurate.errors import InputError

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Noise(ABC):
    """A kind of contamination with its amount; subclasses are frozen dataclasses, one a file.

    Attributes:
        kind: The name that its spec strings start with.
    """

    kind: ClassVar[str]

    @abstractmethod
    def draw(self, values: Tensor, generator: Generator) -> Tensor:
        """Return contaminated values, shape and dtype of `values`, which is on the CPU and stays as it is."""

    @property
    def spec(self) -> str:
        """The string that `parse_noise` makes an equal noise of; settings left at their default are left out.

        >>> from depurate.contamination import BitFlip
        >>> BitFlip(rate=1e-5, bits="exponent").spec
        'bitflip:rate=1e-05,bits=exponent'
        """
        terms: dict[str, object] = {}
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            if field.default is MISSING or value != field.default:
                terms |= law_terms(value) if field.name == "law" else {field.name: value}
        text = ",".join(f"{key}={_shown(value)}" for key, value in terms.items())
        return f"{self.kind}:{text}" if text else self.kind

    @overload
    def apply(self, target: Tensor, seed: int, layers: str = "*") -> Contaminated: ...
    @overload
    def apply(self, target: Mapping[str, Tensor], seed: int, layers: str = "*") -> ContaminatedState: ...
    def apply(
        self, target: Tensor | Mapping[str, Tensor], seed: int, layers: str = "*"
    ) -> Contaminated | ContaminatedState:
        """Contaminate one tensor, or the floating-point tensors of a checkpoint.

        Draws are made on the CPU, so that the noise does not depend on the device; in a checkpoint each tensor has
        draws of its own, made from the seed and its name, so that it is hit alike whichever others are selected.

        Args:
            target: A floating-point tensor or a state dict; left as it is.
            seed: Decides everything random.
            layers: Which tensors of a state dict, by globs over their names: `*.weight,!fc.*`.

        Returns:
            New values with the mask of what differs from before in any bit, and what was before.

        Raises:
            InputError: The tensor is not floating point, or no tensor is selected.

        >>> from depurate.contamination import Stuck
        >>> found = Stuck(rate=0.5).apply({"a": torch.ones(4), "b": torch.ones(4)}, seed=0, layers="b")
        >>> found.values["a"].tolist(), found.mask["b"].tolist() == (found.values["b"] == 0).tolist()
        ([1.0, 1.0, 1.0, 1.0], True)
        """
        if isinstance(target, Tensor):
            return self._tensor(target, torch.Generator().manual_seed(seed))
        numbers = {name: value for name, value in target.items() if _floating(value)}
        wanted = {_memory(name, numbers[name]) for name in selected(numbers, layers)}
        hit: dict[str, Contaminated] = {}
        made: dict[object, Contaminated] = {}
        # Tied tensors are one piece of memory: hit once, under every name.
        for name, value in numbers.items():
            memory = _memory(name, value)
            if memory in wanted:
                if memory not in made:
                    made[memory] = self._tensor(value, _generator(seed, name))
                hit[name] = made[memory]
        return ContaminatedState(
            dict(target) | {name: found.values for name, found in hit.items()},
            {name: found.mask for name, found in hit.items()},
            dict(target),
        )

    def _tensor(self, values: Tensor, generator: Generator) -> Contaminated:
        if not _floating(values):
            raise InputError(f"values: {values.dtype}; expected a floating point type")
        before = values.detach().cpu()
        after = self.draw(before, generator).to(values.dtype)
        mask = bit_pattern(after) != bit_pattern(before)
        return Contaminated(after.to(values.device), mask.to(values.device), values)


def bit_pattern(values: Tensor) -> Tensor:
    """View floating-point values as integers of the same width, to compare or change single bits.

    >>> bit_pattern(torch.tensor([-0.0])).tolist()
    [-2147483648]
    """
    return values.contiguous().view(_INTEGERS[values.element_size()])


def _floating(value: Tensor) -> bool:
    """Whether noise can be put on it; numbers of eight bits only store what others compute with."""
    return value.is_floating_point() and value.element_size() > 1


def _memory(name: str, value: Tensor) -> object:
    """Where a tensor's numbers are; what has none has its name alone."""
    if not value.numel():
        return name
    return value.untyped_storage().data_ptr(), value.storage_offset(), value.shape, value.stride()


def _generator(seed: int, name: str) -> Generator:
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _shown(value: Any) -> str:
    # repr is exact: parsing it gives the very number back.
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)
