"""How sure a network is of its answers to benign images, as a function of some of its kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from depurate.recovery.witness import Witness, images_at_once, listening

_HISTORY = 10


@dataclass(frozen=True, eq=False)
class Answers:
    """Mean entropy of a network's answers, and their mean, shape (classes,)."""

    entropy: float
    mean: Tensor

    @property
    def variety(self) -> float:
        """Entropy of the mean answer."""
        return float(-(self.mean * self.mean.clamp_min(1e-12).log()).sum())

    @property
    def information(self) -> float:
        """H(mean f) − mean H(f), how well the network tells the images apart, sure and not always alike; in nats.

        Source: the mutual information of image and answer, Bridle, Heading & MacKay 1991.
        """
        return self.variety - self.entropy


@dataclass(frozen=True, eq=False)
class Surety:
    """Σ H(f(x_i)) − N min(H(mean f), c) over benign images x_i, f with some parameters replaced.

    H(mean f) counts no more than c: it only keeps answers from becoming all alike, whatever classes the images show.
    What a `Witness` says is added, where the network has normalisations that kept something of training.

    Attributes:
        model: Evaluation mode, or from `listening`; not changed.
        batches: Benign images.
        read: Takes the scores, shape (n, classes), from what the network returns.
        start: Answers of the network as it is.
        other: Answers of another network that may be more varied, or None.
        witness: Or None.

    Source: entropy minimisation as in Grandvalet & Bengio 2004 and Wang et al. 2021 (Tent).
    """

    model: nn.Module
    batches: list[Tensor]
    read: Callable[[object], Tensor]
    start: Answers
    other: Answers | None = None
    witness: Witness | None = None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        batches: list[Tensor],
        read: Callable[[object], Tensor],
        other: nn.Module | None = None,
    ) -> Surety:
        """Look at the network as it is, and at another that may give more varied answers and kept its statistics.

        >>> sure = Surety.of(nn.Identity(), [4 * torch.eye(2)], lambda scores: scores)
        >>> round(sure.start.entropy, 2), round(sure.start.variety, 2)
        (0.09, 0.69)
        """
        compared = None if other is None else _answers(other, batches, read, {})
        heard = None if other is None else listening(model, other)
        witness = None
        if heard is not None:
            model, witness = heard
            images = torch.cat(batches)
            parts = -(-len(images) // images_at_once(model, witness, images[:2]))
            batches = [*images.tensor_split(min(parts, len(images) // 2))]
        return cls(model, batches, read, _answers(model, batches, read, {}), compared, witness)

    @property
    def cap(self) -> float:
        """c, H(mean f) of the network as it is or of the other, whichever is more."""
        # The other may give no numbers at all.
        if self.other is not None and self.other.variety > self.start.variety:
            return self.other.variety
        return self.start.variety

    def answers(self, parameters: dict[str, Tensor]) -> Answers:
        """Answers with these parameters, no gradient."""
        return _answers(self.model, self.batches, self.read, parameters)

    def pull(self, parameters: Callable[[], dict[str, Tensor]]) -> Tensor:
        """The value at `parameters()`; gradients are added to what these are made of, a batch at a time."""
        with torch.no_grad():
            now = None if len(self.batches) == 1 else self.answers(parameters())
        strain = 0.0
        for batch in self.batches:
            scores = self.read(functional_call(self.model, parameters(), (batch,)))
            now = now or _answers_of(scores.detach())
            # d(−N H(mean f)) / df(x_i) = log(mean f) + 1, of which the 1 moves nothing: answers sum to one.
            price = now.mean.clamp_min(1e-12).log() * (now.variety < self.cap)
            logs = scores.log_softmax(1)
            witnessed = self._witnessed(batch)
            pull = (logs.exp() * (price - logs)).sum() + witnessed
            pull.backward()  # type: ignore[no-untyped-call]
            strain += witnessed.item()
        assert now is not None
        return torch.tensor(strain - self.count * self.worth(now))

    @property
    def count(self) -> int:
        """N."""
        return sum(len(batch) for batch in self.batches)

    @torch.no_grad()
    def cost(self, parameters: dict[str, Tensor]) -> float:
        """The value, no gradient."""
        strain, scores = 0.0, []
        for batch in self.batches:
            scores.append(self.read(functional_call(self.model, parameters, (batch,))))
            strain += self._witnessed(batch).item()
        return strain - self.count * self.worth(_answers_of(torch.cat(scores)))

    def _witnessed(self, batch: Tensor) -> Tensor:
        """Part of a batch, just passed through the network, in what the witness says."""
        if self.witness is None:
            return torch.zeros(())
        return self.witness.strain() * (len(batch) / self.count)

    def worth(self, answers: Answers) -> float:
        """How well the images are told apart, with no more variety than c."""
        return min(answers.variety, self.cap) - answers.entropy


def information(model: nn.Module, batches: list[Tensor], read: Callable[[object], Tensor]) -> float:
    """How well a network tells images apart, in nats: at most the logarithm of the number of classes.

    I = H(mean f) − mean H(f)

    >>> round(information(nn.Identity(), [20 * torch.eye(3)], lambda scores: scores), 3)
    1.099

    Source: Bridle, Heading & MacKay 1991.
    """
    return _answers(model, batches, read, {}).information


def named_kernels(name: str, module: nn.Module, kernels: Tensor) -> dict[str, Tensor]:
    """Weight and bias of a layer by their names in the network, differentiable.

    >>> named = named_kernels("fc", nn.Linear(2, 1), torch.tensor([[[1.0, 2.0, 3.0]]]))
    >>> {key: value.tolist() for key, value in named.items()}
    {'fc.bias': [3.0], 'fc.weight': [[1.0, 2.0]]}
    """
    prefix, named = f"{name}." if name else "", {}
    if getattr(module, "bias", None) is not None:
        named[f"{prefix}bias"] = kernels[..., -1].reshape(-1)
        kernels = kernels[..., :-1]
    return named | {f"{prefix}weight": kernels.reshape(module.get_parameter("weight").shape)}


def descend(variables: list[Tensor], cost: Callable[[], Tensor], steps: int) -> None:
    """Minimise in place by L-BFGS; `cost` gives the value and adds the gradient. Of nothing, nothing is asked."""
    if not any(variable.numel() for variable in variables):
        return
    search = torch.optim.LBFGS(
        variables,
        lr=1,
        max_iter=steps,
        max_eval=steps + steps // 4,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        search.zero_grad()
        return cost()

    search.step(closure)  # type: ignore[no-untyped-call]


def _answers(
    model: nn.Module, batches: list[Tensor], read: Callable[[object], Tensor], parameters: dict[str, Tensor]
) -> Answers:
    with torch.no_grad():
        return _answers_of(
            torch.cat([read(functional_call(model, parameters, (batch,))) for batch in batches])
        )


def _answers_of(scores: Tensor) -> Answers:
    logs = scores.log_softmax(1)
    return Answers(float(-(logs.exp() * logs).sum(1).mean()), logs.exp().mean(0))
