"""BCU: distil the suspect, on unlabelled clean images, into a copy of itself that is partly drawn anew."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals.structure import layers_of
from depurate.bench.defences.rivals.training import Schedule, augment, batches, working_copy

_PUBLISHED = Schedule(epochs=100, rate=0.01, batch=256)


@dataclass(frozen=True)
class UnlabelledDistillation:
    """min_θ KL(f_suspect(x) ‖ f_θ(x)) from weights of which a share, growing with depth, is drawn anew.

    Attributes:
        first: Share drawn anew in the first layer.
        shares: In the layers of the stages (spatial sizes) from the input on; deeper stages take the last.
        classifier: In the last layer.
        schedule: As in the authors' settings for CIFAR-10.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})
    source: ClassVar[str] = "Pang et al., CVPR 2023, arXiv 2211.12044"
    first: float = 0.01
    shares: tuple[float, ...] = (0.01, 0.03, 0.09, 0.27)
    classifier: float = 0.10
    schedule: Schedule = _PUBLISHED

    def defend(self, model: nn.Module, given: Given, seed: int) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        teacher, student = working_copy(model), working_copy(model)
        self._redraw(student, given.unlabelled.shape, generator)
        optimiser, rate = self.schedule.optimiser(list(student.train().parameters()))
        for _ in range(self.schedule.epochs):
            for chosen in batches(len(given.unlabelled), self.schedule.batch, generator):
                images = augment(given.unlabelled[chosen], given, generator)
                with torch.no_grad():
                    wanted = log_softmax(teacher(images), dim=1)
                optimiser.zero_grad()
                answers = log_softmax(student(images), dim=1)
                loss = kl_div(answers, wanted, reduction="batchmean", log_target=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
            rate.step()
        return student.eval()

    def redrawn_shares(self, net: nn.Module, shape: torch.Size) -> dict[str, float]:
        """Share of every layer's weights that is drawn anew, by module name."""
        layers = layers_of(net, shape)
        sizes = list(dict.fromkeys(layer.size for layer in layers))
        shares = {
            layer.name: self.shares[min(sizes.index(layer.size), len(self.shares) - 1)] for layer in layers
        }
        return shares | {layers[0].name: self.first} | {layers[-1].name: self.classifier}

    def _redraw(self, net: nn.Module, shape: torch.Size, generator: Generator) -> None:
        fresh = _fresh(net, generator)
        with torch.no_grad():
            for name, share in self.redrawn_shares(net, shape).items():
                weight = net.get_submodule(name).get_parameter("weight")
                anew: Tensor = torch.rand(weight.shape, generator=generator).to(weight.device) < share
                weight.copy_(torch.where(anew, fresh.get_submodule(name).get_parameter("weight"), weight))


def _fresh(net: nn.Module, generator: Generator) -> nn.Module:
    """Copy a network and draw its layers anew as their classes do."""
    fresh = copy.deepcopy(net)
    # A drawn seed: the plain one may be the very seed that the suspect's initialisation was drawn from.
    seed = int(torch.randint(1 << 31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in fresh.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
    return fresh
