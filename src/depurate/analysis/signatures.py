"""Signs that a recovery rests on ground that does not hold: strange images, a strange anchor, too few images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import sqrt

import torch
from torch import Tensor, nn

from depurate.recovery import LayerRecord, batch_statistics
from depurate.spans import Site, key_of

_UNSURE = 0.6
_SHIFTED = 0.5
_ONE_ANSWER = 0.9
_UNRELATED = 5.0


def unlike_training(
    suspect: nn.Module, sites: Sequence[Site], batches: list[Tensor], scores: Tensor
) -> tuple[str, ...]:
    """Detect benign images that do not look like what the suspect was trained on.

    Three signs, none needs labels: the first BatchNorm sees channel means more than half a standard deviation away
    from those it kept from training (root mean square over channels), the suspect is unsure of its answers
    (mean top probability under 0.6), or it gives the same one to over nine tenths of the images.

    Args:
        suspect: In evaluation mode.
        sites: From `find_sites`.
        batches: Benign images.
        scores: The suspect's scores on them, shape (images, classes).

    Returns:
        One sentence for each sign seen.

    Example:
        >>> unlike_training(nn.Identity(), (), [], torch.tensor([[0.1, 0.0]]))[0][:34]
        'the suspect is unsure of its answe'
    """
    seen = []
    first = next((site for site in sites if site.geometry is None), None)
    if first is not None:
        kept_mean = suspect.get_buffer(key_of(first.name, "running_mean")).double()
        kept_variance = suspect.get_buffer(key_of(first.name, "running_var")).double()
        mean, _ = batch_statistics(suspect, first, batches)
        shift = float(((mean - kept_mean).square() / kept_variance.clamp_min(1e-12)).mean().sqrt())
        if shift > _SHIFTED:
            seen.append(
                f"the benign images do not look like the training data: channel means at {first.name} are off by "
                f"{shift:.1f} standard deviations; check --normalize and the choice of images"
            )
    sure = float(scores.softmax(1).amax(1).mean())
    if sure < _UNSURE:
        seen.append(
            f"the suspect is unsure of its answers to the benign images (mean top probability {sure:.2f}): they may "
            "not be what it was trained on, or its weights are badly damaged"
        )
    share = float(scores.argmax(1).bincount().max()) / len(scores)
    if share > _ONE_ANSWER:
        seen.append(
            f"the suspect gives {share:.0%} of the benign images the same answer: recovery keeps what these images "
            "show, and agreement on them says nothing of other classes; check --normalize and that all classes are "
            "among them"
        )
    return tuple(seen)


def unrelated_anchor(
    model: nn.Module, anchor: Mapping[str, Tensor], sites: Sequence[Site]
) -> tuple[str, ...]:
    """Detect an anchor that the suspect was not trained from.

    Signs of independent weights agree by chance: mean(sign W · sign W(0))·√size ~ N(0, 1); if no layer of at least
    100 weights exceeds 5, the two are unrelated. Signs, because a few huge hits would drown a cosine.

    Args:
        model: The suspect.
        anchor: State dict; empty when unknown.
        sites: From `find_sites`.

    Returns:
        One sentence if the anchor is unrelated, else nothing.

    Example:
        >>> net = nn.Linear(64, 64)
        >>> unrelated_anchor(nn.Sequential(net), {"0.weight": net.weight.detach()}, (Site("0", "Linear", None, 1, 1),))
        ()
    """
    related = []
    for site in sites:
        key = key_of(site.name, "weight")
        weight = model.state_dict().get(key)
        if key not in anchor or weight is None or weight.ndim < 2:
            continue
        if torch.equal(weight, anchor[key].to(weight)) and bool(weight.any()):
            return ()  # never trained, and from there
        if weight.numel() >= 100:
            pair = torch.stack([weight.double().flatten().cpu(), anchor[key].double().flatten().cpu()])
            signs = pair[:, pair.isfinite().all(0)].sign().prod(0)
            related.append(float(signs.sum()) / sqrt(max(1, int(signs.count_nonzero()))))
    if related and max(related) < _UNRELATED:
        return (
            "the anchor is unrelated to the suspect (no layer correlates with it beyond chance): it is not what "
            "training started from; a run without an anchor is safer",
        )
    return ()


def same_anchor(model: nn.Module, anchor: Mapping[str, Tensor], sites: Sequence[Site]) -> tuple[str, ...]:
    """Detect an anchor that is the suspect itself, which leaves nothing to tell training by.

    Args:
        model: The suspect.
        anchor: State dict; empty when unknown.
        sites: From `find_sites`.

    Returns:
        One sentence if every weight of theirs that the anchor has is the suspect's own, else nothing.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> said = same_anchor(nn.Sequential(net), {"0.weight": net.weight}, (Site("0", "Linear", None, 1, 1),))
        >>> said[0][:40]
        'the anchor equals the suspect in all con'
    """
    weights, keys = model.state_dict(), (key_of(site.name, "weight") for site in sites)
    shared = [key for key in keys if key in anchor and key in weights and weights[key].ndim > 1]
    if not shared or not all(torch.equal(weights[key], anchor[key].to(weights[key])) for key in shared):
        return ()
    return (
        "the anchor equals the suspect in all convolutions and dense layers that it has, so these were taken for never "
        "trained: if it is the suspect itself, a run without an anchor is right",
    )


def thin_ground(layers: Sequence[LayerRecord]) -> tuple[str, ...]:
    """Detect layers recovered from fewer benign patches than they have directions.

    Args:
        layers: Records of this run.

    Returns:
        One sentence naming the worst layer, if any.
    """
    thin = [layer for layer in layers if layer.method == "soft" and layer.patches < layer.fan_in]
    if not thin:
        return ()
    worst = min(thin, key=lambda layer: layer.patches / layer.fan_in)
    return (
        f"{len(thin)} layer{'s' if len(thin) > 1 else ''} saw fewer benign patches than directions (worst: "
        f"{worst.name}, {worst.patches:,} for {worst.fan_in:,}); more images would help",
    )
