"""A recovery refined by distillation: rehearsed without a fold of the images first, then done with all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from depurate.analysis import brought_up
from depurate.purification.backdoor import Watch
from depurate.purification.distillation import Distillation, distil
from depurate.purification.finished import Finished, Rehearsal
from depurate.purification.plan import Plan
from depurate.purification.run import Run
from depurate.purification.strength import DEFAULT_STRENGTH
from depurate.recovery import LayerOutcome, LayerRecord, Trial, anchor_kernels
from depurate.spans import read_kernels
from depurate.triggers import Adversarial, Trigger, telling

# Expected loss beyond that of the recovery that is tolerated.
_DEARER = 0.03
_NOTHING_TAUGHT = "nothing was distilled: that refines a soft recovery that was taught to ignore triggers"
_TOO_DEAR = (
    "distillation was tried and dropped: on {images} held-back images it is expected to cost {after:.1f} points of "
    "accuracy, the recovery alone {before:.1f}"
)
_DISTILLED = (
    "distilled: on {images} held-back images the expected loss is {after:.1f} points ({before:.1f} before)"
)
_PERTURBED = (
    "; perturbations towards what was flagged, made for the suspect, still work on {left:.0%} of the images "
    "({before:.0%} before)"
)
_NOTE = (
    "then distilled{together}: trained, without labels, to answer benign images as the suspect does and not to follow "
    "the triggers found"
)
_TOGETHER = " together with the other layers"
_UNCHECKED = "distilled without a check: there were too few images to hold any back"


def refine(
    plan: Plan, run: Run, done: Finished, left: tuple[str, ...], watch: Watch, how: Distillation
) -> tuple[Plan, Finished, tuple[str, ...]]:
    """Distil a recovery that triggers were taught away in, unless that costs far more than it did.

    Args:
        plan: As it was carried out.
        run: Its run with all that was taught.
        done: The recovery.
        left: What was to be said of it.
        watch: Looks for triggers.
        how: Settings of the distillation.

    Returns:
        The plan with the trial, the refined recovery and what is to be said of it.
    """
    layers = tuple(layer.name for layer in done.layers if layer.method == "soft")
    task = _Task(run, layers, tuple(filter(telling, run.triggers)), how)
    if not task.resisted or not layers or plan.recipe.only is not None:
        return plan, done, (*left, _NOTHING_TAUGHT)
    tried = task.tried(plan, done) if run.benign.held_back else None
    if tried is not None:
        plan = _with_trial(plan, run, tried)
        if not tried.bearable:
            return plan, done, (*left, tried.said(_TOO_DEAR))
    # What was checked on large pictures is the result: it was made without the images held back.
    if tried is not None and plan.done is not None:
        network = tried.network
    else:
        network = task.distilled(done.suspect, done.purified, run.benign.all(), "distilling")
    said = _UNCHECKED if tried is None else tried.said(_DISTILLED)
    records = tuple(task.record(layer, network) for layer in done.layers)
    finished = replace(done, purified=network, layers=records)
    again = () if plan.screening is None else watch.again(network, plan.screening)
    return plan, finished, (said, *watch.left(network, (*run.triggers, *again)))


@dataclass(frozen=True)
class _Tried:
    """A recovery and its distillation, both without the images held back, and what these show of each.

    Attributes:
        network: The distilled one.
        before: Agreement of the recovery with the suspect, and how often perturbations made for that still work.
        after: The same of the distilled network.
    """

    network: nn.Module
    before: Rehearsal
    after: Rehearsal

    @property
    def bearable(self) -> bool:
        """Whether it is not sure, by one standard error, to cost more than is tolerated."""
        after = self.after.agreement
        return after.expected_loss - after.loss_error <= self.before.agreement.expected_loss + _DEARER

    def said(self, template: str) -> str:
        text = template.format(
            images=self.after.agreement.images,
            before=100 * self.before.agreement.expected_loss,
            after=100 * self.after.agreement.expected_loss,
        )
        if not self.after.left or not self.bearable:
            return text
        return text + _PERTURBED.format(left=max(self.after.left), before=max(self.before.left))


@dataclass(frozen=True)
class _Task:
    """What is distilled: the run with all that was taught, the layers, the triggers to resist, the settings."""

    run: Run
    layers: tuple[str, ...]
    resisted: tuple[Trigger, ...]
    how: Distillation

    def distilled(
        self, suspect: nn.Module, purified: nn.Module, batches: list[Tensor], what: str
    ) -> nn.Module:
        def told(epoch: int, epochs: int) -> None:
            self.run.progress(what, epoch, epochs)

        return distil(suspect, purified, self.layers, batches, self.resisted, self.how, told)

    def tried(self, plan: Plan, done: Finished) -> _Tried:
        """Distil without the images held back and look at these."""
        benign = self.run.benign
        if plan.done is None:
            what = "recovering to rehearse distillation"
            suspect, purified = self.run.without(plan.recipe, what, 0)
            batches = benign.fit(0)
        else:
            suspect, purified, batches = done.suspect, done.purified, benign.others(0)
        network = self.distilled(suspect, purified, batches, "rehearsing distillation")
        perturbed = [trigger for trigger in self.resisted if isinstance(trigger, Adversarial)]
        before, after = (self.run.held_up(each, suspect, perturbed) for each in (purified, network))
        return _Tried(network, before, after)

    def record(self, layer: LayerRecord, network: nn.Module) -> LayerRecord:
        """A layer's record after distillation; of layers that it left alone the record is as it was."""
        if layer.name not in self.layers:
            return layer
        (site,) = (site for site in self.run.sites if site.name == layer.name)
        received = read_kernels(self.run.suspect.get_submodule(layer.name))
        purified = read_kernels(network.get_submodule(layer.name))
        origin = anchor_kernels(self.run.anchor, layer.name, received)
        start = torch.zeros_like(received) if origin is None else origin
        nothing = torch.zeros_like(received, dtype=torch.bool)
        note = _NOTE.format(together=_TOGETHER if len(self.layers) > 1 else "")
        return brought_up(layer, LayerOutcome(site, "soft", received, start, purified, nothing), note)


def _with_trial(plan: Plan, run: Run, tried: _Tried) -> Plan:
    """The plan with the trial, chosen in the place of the others if it was taken."""
    taken = tried.bearable
    strength = DEFAULT_STRENGTH if plan.recipe.strength is None else plan.recipe.strength
    trial = Trial(strength, tried.after.agreement, chosen=taken, share=run.share, distilled=True)
    before = (replace(other, chosen=other.chosen and not taken) for other in plan.trials)
    return replace(plan, trials=(*before, trial))
