"""What a purification found, did and can guarantee, in plain sentences built from its record alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from depurate.recovery.records import Guarantee, LayerRecord, PurifyRecord, TriggerSearch
from depurate.report.counting import all_entries, all_hits, has_kernels, hits, uncovered_share
from depurate.report.formats import NBSP, count, percent, plural, shorten

STRONGEST_FIRST = (
    Guarantee.EXACT,
    Guarantee.UNCHANGED,
    Guarantee.PARTIAL,
    Guarantee.APPROXIMATE,
    Guarantee.NONE,
)

HEADLINES = {
    Guarantee.EXACT: "Certified exact recovery of every layer that was changed",
    Guarantee.UNCHANGED: "Nothing was changed: the network is returned as it came",
    Guarantee.PARTIAL: "Partly certified: some kernels are proven, the others are estimates",
    Guarantee.APPROXIMATE: "Purified by estimate: no proof of what was clean",
    Guarantee.NONE: "Not recovered: in part of the network nothing could be identified",
}

DEEDS = {
    "exact": "fitted to the span of the benign images by least absolute deviations",
    "soft": "recomputed as the nearest weights to the anchor that answer alike on the benign images",
    "robust": "searched for hit entries, which were then filled in from the others",
    "statistics": "given normalisation statistics measured afresh on the benign images",
    "none": "left as received",
}

SHORT_CUTS = {
    "patch": "a patch much smaller than other classes take",
    "away": "one small patch",
    "square": "one small plain square",
    "warp": "one small warp",
    "addition": "one short addition",
    "wave": "one faint sinusoid",
    "aware": "small changes drawn for each image",
    "unshared patch": "a small patch that the suspect's purified self does not react to",
    "unshared change": "plain changes of the whole picture that the suspect's purified self does not react to",
    "unshared wave": "one sinusoid that the suspect's purified self does not react to",
}


@dataclass(frozen=True)
class Verdict:
    """The top of the report.

    Attributes:
        guarantee: The weakest statement over the layers that were changed.
        headline: One line.
        found: Sentences on the contamination.
        done: Sentences on what was done about it.
        trust: Sentences on how far the result can be relied on.
    """

    guarantee: Guarantee
    headline: str
    found: tuple[str, ...]
    done: tuple[str, ...]
    trust: tuple[str, ...]


def judge(record: PurifyRecord) -> Verdict:
    """Judge a purification.

    The word "exact" is used only when the record and every changed layer in it claim it and all kernels of
    those layers are certified; otherwise the weakest claim found decides.

    Args:
        record: The account of the purification.

    Returns:
        The verdict.

    >>> judge(PurifyRecord("auto", Guarantee.UNCHANGED, "given", 100, (), None)).headline
    'The record lists no layers: nothing was recovered'
    """
    guarantee = weakest(record)
    return Verdict(
        guarantee, _headline(record, guarantee), _found(record), _done(record), _trust(record, guarantee)
    )


def weakest(record: PurifyRecord) -> Guarantee:
    """Find the weakest of the record's own guarantee and those of its changed layers.

    Args:
        record: The account of the purification.

    Returns:
        The guarantee that may be stated for the whole.

    >>> weakest(PurifyRecord("auto", Guarantee.PARTIAL, "given", 100, (), None))
    <Guarantee.PARTIAL: 'partial'>
    """
    changed = [supported(layer) for layer in changed_layers(record)]
    if not record.layers:
        return max(record.guarantee, Guarantee.UNCHANGED, key=STRONGEST_FIRST.index)
    if not changed:
        # No changed layer bears out a claim of certificates.
        certified = record.guarantee in (Guarantee.EXACT, Guarantee.PARTIAL)
        return Guarantee.UNCHANGED if certified else record.guarantee
    found = max(*changed, record.guarantee, key=STRONGEST_FIRST.index)
    # A record that calls itself unchanged but lists changed layers contradicts itself: claim nothing from it.
    return Guarantee.APPROXIMATE if found is Guarantee.UNCHANGED else found


def supported(layer: LayerRecord) -> Guarantee:
    """Weaken the layer's guarantee where it claims more kernels than its certificates cover.

    Args:
        layer: One layer's record.

    Returns:
        What the layer says, if that needs no certificates or they bear it out; else `partial` when some
        kernels are certified, `approximate` when none is.
    """
    needed = {Guarantee.EXACT: max(layer.kernels, 1), Guarantee.PARTIAL: 1}.get(layer.guarantee, 0)
    if layer.certified >= needed:
        return layer.guarantee
    return Guarantee.PARTIAL if layer.certified else Guarantee.APPROXIMATE


def changed_layers(record: PurifyRecord) -> list[LayerRecord]:
    """List the layers that were not returned bit for bit, in forward order."""
    return [layer for layer in record.layers if layer.guarantee is not Guarantee.UNCHANGED]


def _headline(record: PurifyRecord, guarantee: Guarantee) -> str:
    if not record.layers:
        return "The record lists no layers: nothing was recovered"
    return HEADLINES[guarantee]


def _quote(name: str) -> str:
    return f"“{shorten(name, 60)}”"


def _found(record: PurifyRecord) -> tuple[str, ...]:
    if not record.layers:
        return ("No layer was examined.",)
    struck = [layer for layer in record.layers if hits(layer)]
    hit, total = all_hits(record), all_entries(record)
    if hit:
        nonfinite = sum(layer.nonfinite for layer in struck)
        sentence = f"{plural(hit, 'entry is', 'entries are')} taken for hit"
        sentence += f" ({percent(hit / total)} of {count(total)})" if total else ""
        sentence += f", in {count(len(struck))} of {plural(len(record.layers), 'layer')}"
        sentence += (
            f" and in {plural(len(record.guessed), 'parameter')} beside them" if record.guessed else ""
        )
        sentence += f"; {count(nonfinite)} of them arrived as NaN or infinity." if nonfinite else "."
    else:
        sentence = (
            f"No single entry could be shown to be hit, in {plural(len(record.layers), 'layer')} examined."
        )
    return (*_backdoor(record.search), sentence, *_off_span(record.layers))


def _backdoor(search: TriggerSearch | None) -> tuple[str, ...]:
    if search is None:
        return ()
    if not (search.evidence or search.flagged):
        looked = f"{plural(len(search.classes), 'class', 'classes')} searched"
        looked += f" (of {count(search.known)})" if search.known > len(search.classes) else ""
        but = f", but for {_classes(search.natural)}, taken for easy by nature" if search.natural else ""
        return (
            f"No trigger was found that makes any of {looked} much easier to reach than the others{but}.",
        )
    if search.evidence == "output weights":
        return (
            f"The output weights of {_classes(search.flagged)} stand out: a backdoor there is suspected.",
        )
    how = SHORT_CUTS.get(search.evidence, "one small change")
    if not search.flagged:
        return (f"A backdoor that sends each class to another is suspected: {how} leads there.",)
    often = "many" if search.evidence in ("unshared change", "unshared wave") else "most"
    return (f"A backdoor to {_classes(search.flagged)} is suspected: {how} leads there from {often} images.",)


def _classes(names: Sequence[int]) -> str:
    return f"{'class' if len(names) == 1 else 'classes'} {', '.join(map(str, names))}"


def _off_span(layers: Sequence[LayerRecord]) -> tuple[str, ...]:
    measured = [(layer.off_span, layer) for layer in layers if _finite(layer.off_span)]
    if not measured:
        return ()
    share, layer = max(measured, key=lambda pair: pair[0] or 0.0)
    if not share:
        return ("No layer's update leaves the leading directions of the benign images.",)
    return (
        f"Of the suspect's update, {percent(share)} lies outside the leading directions of the benign images "
        f"in {_quote(layer.name)}, the layer where this share is largest.",
    )


def _done(record: PurifyRecord) -> tuple[str, ...]:
    changed = changed_layers(record)
    touched = {guess.name.rpartition(".")[0] for guess in record.guessed}
    kept = sum(
        layer.guarantee is Guarantee.UNCHANGED and layer.name not in touched for layer in record.layers
    )
    methods = Counter(layer.method for layer in changed)
    sentences = []
    for method, number in methods.items():
        deed = DEEDS.get(method, f"treated with the method {_quote(method)}")
        sentences.append(f"{plural(number, 'layer was', 'layers were')} {deed}.")
    if record.repaired_first:
        sentences.append("Before that, entries taken for hit were replaced.")
    if any(trial.chosen and trial.distilled for trial in record.trials):
        sentences.append(
            "The recomputed layers were then distilled: trained together, without labels, to answer benign images as "
            "the suspect does and not to follow the triggers found."
        )
    if record.guessed:
        sentences.append(
            f"{plural(sum(guess.hit for guess in record.guessed), 'entry', 'entries')} of "
            f"{plural(len(record.guessed), 'parameter')} beside these layers, such as scales and shifts of "
            "normalisations, were replaced by a guess; the warnings say more."
        )
    if kept:
        sentences.append(f"{plural(kept, 'layer was', 'layers were')} returned bit for bit as received.")
    moved = [layer for layer in record.layers if _finite(layer.moved) and layer.moved > 0]
    if moved:
        far = max(moved, key=lambda layer: layer.moved)
        sentences.append(
            f"The layer that moved most is {_quote(far.name)}, by {percent(far.moved)} of its norm."
        )
    return tuple(sentences) or ("Nothing was done.",)


def _trust(record: PurifyRecord, guarantee: Guarantee) -> tuple[str, ...]:
    sentences = list(_claim(record, guarantee))
    if record.untouched:
        sentences.append(
            f"{plural(len(record.untouched), 'parameter is', 'parameters are')} covered by no recovery "
            f"and passed on as received{uncovered_share(record)}."
        )
    held, before = record.agreement, "repaired" if record.repaired_first else "suspect"
    if held is None:
        sentences.append(
            "Agreement on held-back images was not measured: that is done for soft recovery, where there are enough "
            "images to hold some back."
        )
    else:
        sentences.append(
            f"On {plural(held.images, 'held-back benign image')} {before} and purified network gave the same "
            f"answer in {percent(held.agreement)} of cases (95{NBSP}% interval {percent(held.low)} to "
            f"{percent(held.high)}). "
            "This measures benign behaviour only; it cannot show whether a hidden trigger still works."
        )
    return tuple(sentences)


def _claim(record: PurifyRecord, guarantee: Guarantee) -> tuple[str, ...]:
    if not record.layers:
        return ("Nothing can be said about this network.",)
    if guarantee is Guarantee.UNCHANGED:
        return ("Being left alone is no proof of being clean.",)
    changed = changed_layers(record)
    if guarantee is Guarantee.EXACT:
        claim = (
            "Every kernel of the changed layers is certified: these are the clean weights, if training "
            "started from this anchor and kept its updates in the span of these images"
        )
        if len(changed) == len(record.layers) and not record.untouched:
            return (f"{claim}.",)
        return (
            f"{claim}, and if what was returned as received is clean: nothing certifies that, and a layer that it "
            "reaches was shown what it makes.",
        )
    lost = [layer for layer in record.layers if layer.guarantee is Guarantee.NONE]
    certified = sum(layer.certified for layer in changed)
    kernels = sum(layer.kernels for layer in changed if has_kernels(layer))
    claims = []
    if lost:
        names = ", ".join(_quote(layer.name) for layer in lost[:3]) + (" and others" if len(lost) > 3 else "")
        claims.append(f"In {plural(len(lost), 'layer')} nothing could be identified: {names}.")
    if certified:
        claims.append(
            f"{count(certified)} of {plural(kernels, 'kernel')} in the changed layers are certified."
        )
        claims.append("All other changed weights are estimates.")
    elif len(lost) < len(changed):
        claims.append("The new weights are estimates: that they are the clean ones is not proven.")
    return tuple(claims)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
