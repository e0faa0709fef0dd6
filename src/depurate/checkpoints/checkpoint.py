"""What was read from a checkpoint file, with all that is needed to write it back under the same keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from depurate.checkpoints.quoting import quote, quote_few


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint as found in its file.

    Attributes:
        path: The file it was read from.
        state: Tensors on the CPU with the keys and dtypes of the file.
        format: `safetensors` or `torch`, by content and not by suffix.
        wrapper: Keys that were unwrapped on the way to the state, such as `("state_dict",)`.
        prefix: What every key starts with because of DataParallel or torch.compile, such as `module.`; often
            empty.
        metadata: The text metadata of a safetensors file, empty otherwise.
        sha256: Digest of the file that was read, in hexadecimal.
        left_out: Keys of other state dicts in the file, such as a moving average of the weights.

    >>> import torch
    >>> read = Checkpoint(Path("a.pt"), {"module.fc.bias": torch.zeros(1)}, "torch", (), "module.", {})
    >>> list(read.weights)
    ['fc.bias']
    """

    path: Path
    state: dict[str, Tensor]
    format: str
    wrapper: tuple[str, ...]
    prefix: str
    metadata: dict[str, str]
    sha256: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def entry(self) -> str:
        """Which of the file's entries was read, and which others were not; empty where there was nothing to choose.

        >>> Checkpoint(Path("a.pt"), {}, "torch", ("model",), "", {}, left_out=("model_ema",)).entry
        'model (left out: model_ema)'
        """
        read = quote(".".join(self.wrapper))
        return f"{read} (left out: {quote_few(self.left_out)})" if self.left_out else read

    @property
    def weights(self) -> dict[str, Tensor]:
        """The state under the names the network itself gives, without the prefix."""
        return {key.removeprefix(self.prefix): value for key, value in self.state.items()}
