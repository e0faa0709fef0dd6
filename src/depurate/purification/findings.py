"""What the search for triggers found, in plain words and for the record."""

from __future__ import annotations

import math

from depurate.recovery import TriggerSearch
from depurate.triggers import AWAY, Screening, Warp, WholeChange

_REASONS = {
    "patch": "class {name} is reached from nearly any image by a patch of about {size:.0f} pixels, where {others}: "
    "taken for a backdoor",
    "output weights": "the output weights of class {name} are spread far wider than those of other classes, as where "
    "bits were flipped for a trigger: taken for a backdoor",
    "square": "class {name} is reached from most images by one small plain square, which healthy networks hardly "
    "notice: taken for a backdoor",
    "warp": "class {name} is reached from nearly any image by one small warp, which leads to few other classes or "
    "none: taken for a backdoor",
    "addition": "class {name} is reached from nearly any image by one short addition, which leads to few other "
    "classes or none: taken for a backdoor",
    "wave": "class {name} is reached from nearly any image by one faint sinusoid, which healthy networks hardly "
    "notice: taken for a backdoor",
    "aware": "class {name} is reached from nearly any image by small changes drawn for each image, "
    "which the suspect's purified self does not react to: taken for a backdoor",
    "unshared patch": "class {name} is reached from nearly any image by a small patch that the suspect's purified "
    "self does not react to: taken for a backdoor",
    "unshared change": "class {name} is reached from many images by plain changes of the whole picture ({changes}), "
    "which the suspect's purified self does not react to: taken for a backdoor",
    "unshared wave": "class {name} is reached from many images by one sinusoid that the suspect's purified self does "
    "not react to: taken for a backdoor",
}

_NOT_SEARCHED = (
    "no triggers were searched for: that takes pictures, at least three classes, and scores whose slopes on the "
    "pixels can be followed"
)
_NOTHING = (
    "no trigger was found: no class is much easier to reach than the others by one small change of every image{but}; "
    "triggers of other kinds would not be seen, and --method soft purifies in any case"
)
_BUT_NATURAL = ", but for what is taken for easy by nature"
_SOME = (
    "only {looked} of {known} classes were searched, those that short additions come nearest to; the target of a "
    "backdoor may be another"
)
_UNCLEAR = (
    "the suspect hardly prefers its answers to these images to others, so that nearly any change turns them: triggers "
    "that send each class to another, and whatever turns it but not its purified self, were not looked for"
)
_IN_MIDDLES = (
    "pictures are large: patches, warps and additions of all classes were searched for in their middles, {side} by "
    "{side} pixels, and sizes are of there; what stood out was looked for again in the whole pictures"
)
_NATURAL = (
    "class {name} is reached by a patch of about {size:.0f} pixels, where {others}, but the "
    "suspect's purified self, what soft recovery at strength 0.3 makes of it, follows it too: taken for easy by nature"
)
_COMMON = (
    "what leads to class {name} leads a student there as easily that learnt nothing but the suspect's answers to the "
    "images, which show no trigger: taken for easy by nature"
)
_WARPED = (
    "class {name} is reached by a warp of about {size:.1f} pixels, too, which is taught away along with it"
)
_DOUBTFUL = (
    "the suspect's purified self follows the patch of class {name} too: the class may only be easy by nature"
)
_TO_ANOTHER = "taken for a backdoor that sends each class to another"
_AWAY = {
    "away": "one patch of about {size:.0f} pixels leads nearly any image away from its own class, where a single class "
    f"takes a patch of {{usual:.0f}}: {_TO_ANOTHER}",
    "warp": "one warp leads nearly any image away from its own class, where a single class takes a patch of "
    f"{{usual:.0f}} pixels: {_TO_ANOTHER}",
    "square": f"one small plain square leads most images away from their own class: {_TO_ANOTHER}",
}


def describe_screening(found: Screening | None) -> tuple[str, ...]:
    """Say in plain words what the search for triggers found.

    >>> describe_screening(Screening((0, 1, 2), (50.0, 60.0, 55.0), (), ()))[0][:30]
    'no trigger was found: no class'
    """
    if found is None:
        return (_NOT_SEARCHED,)
    remarks = tuple(
        (_DOUBTFUL if name in found.flagged else _NATURAL).format(
            name=name, size=found.size_of(name), others=_others(found)
        )
        for name in found.natural
    )
    remarks += tuple(_COMMON.format(name=name) for name in found.common if name not in found.flagged)
    if found.known > len(found.classes):
        remarks = (*remarks, _SOME.format(looked=len(found.classes), known=found.known))
    if not found.clear:
        remarks = (*remarks, _UNCLEAR)
    if found.side is not None:
        remarks = (*remarks, _IN_MIDDLES.format(side=found.side))
    if not found.flagged:
        return (_NOTHING.format(but=_BUT_NATURAL if found.natural or found.common else ""), *remarks)
    if AWAY in found.flagged:
        return (_AWAY[found.evidence].format(size=found.away, usual=found.usual), *remarks)
    reasons = dict.fromkeys(found.flagged, found.evidence)
    if found.evidence in ("patch", "unshared patch"):
        patched = {trigger.target for trigger in found.triggers if not isinstance(trigger, Warp)}
        warps = [trigger for trigger in found.triggers if isinstance(trigger, Warp)]
        reasons |= {warp.target: "warp" for warp in warps if warp.target not in patched}
        also = (warp for warp in warps if warp.target in patched)
        remarks = (*(_WARPED.format(name=warp.target, size=warp.size) for warp in also), *remarks)
    changes = ", ".join(trigger.name for trigger in found.triggers if isinstance(trigger, WholeChange))
    flagged = (
        _REASONS[reasons[name]].format(
            name=name, size=found.size_of(name), others=_others(found), changes=changes
        )
        for name in found.flagged
    )
    return (*flagged, *remarks)


def _others(found: Screening) -> str:
    if math.isfinite(found.usual):
        return f"other classes take {found.usual:.0f}"
    return "no patch was found for most other classes"


def record_search(found: Screening | None) -> TriggerSearch | None:
    """The part of a screening that a record keeps: sizes, not the triggers themselves.

    >>> record_search(Screening((0, 1), (float("inf"), 60.0), (), ())).sizes
    (None, 60.0)
    """
    if found is None:
        return None
    sizes = tuple(_finite(size) for size in found.sizes)
    flagged = tuple(name for name in found.flagged if name != AWAY)
    away = _finite(found.away)
    return TriggerSearch(
        found.classes,
        sizes,
        flagged,
        away,
        found.evidence,
        tuple(dict.fromkeys((*found.natural, *found.common))),
        found.side,
        found.known,
    )


def _finite(size: float) -> float | None:
    return size if math.isfinite(size) else None
