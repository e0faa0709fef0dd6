"""Agreement of two networks on benign images, with an interval and a label-free estimate of the accuracy lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import sqrt

import torch
from torch import Tensor, nn

from depurate.errors import InputError
from depurate.recovery import Agreement


def logits(model: nn.Module, batches: list[Tensor]) -> Tensor:
    """Compute a network's scores on images.

    Args:
        model: In evaluation mode. A tuple's first entry or a dict's `logits` or `out` entry is taken.
        batches: Images.

    Returns:
        Scores of shape (images, classes), float64, on the CPU.

    Raises:
        InputError: The network does not return one row of scores an image.

    Example:
        >>> logits(nn.Identity(), [torch.zeros(2, 3)]).shape
        torch.Size([2, 3])
    """
    with torch.no_grad():
        scores = [read_scores(model(batch)) for batch in batches]
    answer = torch.cat([some[None] if some.ndim == 0 else some for some in scores]).double().cpu()
    if answer.ndim != 2 or answer.shape[1] < 2:
        raise InputError(
            f"the network returns shape {tuple(answer.shape[1:])} an image; expected scores of 2 or more classes"
        )
    return answer


def compare(suspect: Tensor, purified: Tensor) -> Agreement:
    """Compare two networks' answers to the same images.

    agreement = share of equal top answers, with the 95 % Wilson interval;
    expected loss = mean over the images of p(a) − p(b), where a and b are the suspect's and the purified network's
    answers and p the suspect's softmax: what the suspect itself believes the change costs.

    Args:
        suspect: Scores, shape (images, classes).
        purified: Scores of the same shape.

    Returns:
        The comparison.

    Example:
        >>> scores = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
        >>> same = compare(scores, scores)
        >>> same.agreement, round(same.low, 2), same.expected_loss
        (1.0, 0.34, 0.0)

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
    """
    belief = suspect.softmax(1)
    before, after = suspect.argmax(1, keepdim=True), purified.argmax(1, keepdim=True)
    n = len(suspect)
    share = float((before == after).double().mean())
    low, high = _wilson(share, n)
    losses = belief.gather(1, before) - belief.gather(1, after)
    error = float(losses.std() / sqrt(n)) if n > 1 else 0.0
    return Agreement(n, share, low, high, float(losses.mean()), error)


def scored_by(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A network as a function from images to scores, differentiable.

    >>> scored_by(nn.Identity())(torch.zeros(1, 2)).shape
    torch.Size([1, 2])
    """
    return lambda images: read_scores(model(images))


def read_scores(output: object) -> Tensor:
    """Read class scores from whatever a network returns: a tensor, a tuple's first, a dict's `logits` or `out`.

    Raises:
        InputError: There are none.

    >>> read_scores({"logits": torch.zeros(1, 2)}).shape
    torch.Size([1, 2])
    """
    if isinstance(output, Mapping):
        known = [key for key in ("logits", "out") if key in output]
        if not known:
            raise InputError(
                f"the network returns a dict with {', '.join(map(repr, output))}; expected class scores under 'logits' "
                "or 'out'"
            )
        output = output[known[0]]
    if isinstance(output, tuple | list) and output:
        output = output[0]
    if not isinstance(output, Tensor):
        raise InputError(f"the network returns {type(output).__name__}; expected a tensor of class scores")
    return output


def _wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # At the ends the closed form is an end of the range itself, but for rounding.
    return (0.0 if share == 0 else centre - reach), (1.0 if share == 1 else centre + reach)
