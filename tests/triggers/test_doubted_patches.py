"""A class that only its unfollowed patch speaks against gives way to one that a small warp leads to."""

import pytest
import torch

from depurate.triggers import Patch, Screening, Search, Subject, Warp
from depurate.triggers import screening as screening_module
from depurate.triggers.screening import _with_warps

IMAGES = torch.rand(4, 1, 32, 32)
SUBJECT = Subject(lambda images: images.flatten(1)[:, :4], IMAGES, (0, 1, 2, 3), Search(), clear=False)


def warp(target, size):
    knots = torch.zeros(2, 4, 4)
    knots[0] = size
    return Warp(target, knots)


def searched(monkeypatch, sizes, evidence):
    """What is left of class 3, flagged by a patch, where warps of these sizes lead to the classes."""
    patch = Patch(3, torch.ones(1, 32, 32) / 64, torch.ones(1, 32, 32))
    found = Screening((0, 1, 2, 3), (40.0, 42.0, 41.0, 30.0), (3,), (patch,), evidence=evidence)

    def warps(score, images, goals, search, step=None):
        return [warp(goal, sizes[goal]) for goal in goals]

    monkeypatch.setattr(screening_module, "find_warps", warps)
    monkeypatch.setattr(screening_module, "success", lambda score, images, triggers: [1.0] * len(triggers))
    return _with_warps(SUBJECT, found, lambda done, total: None)


def test_another_classs_small_warp_takes_its_place(monkeypatch):
    found = searched(monkeypatch, (0.2, 4.0, 4.2, 3.9), "unshared patch")
    assert (found.flagged, found.evidence) == ((0,), "warp")


def test_its_own_tiny_warp_is_taught_along(monkeypatch):
    found = searched(monkeypatch, (4.1, 4.0, 4.2, 0.3), "unshared patch")
    assert (found.flagged, found.evidence) == ((3,), "unshared patch")
    assert [type(trigger) for trigger in found.triggers] == [Patch, Warp]


@pytest.mark.parametrize("evidence", ["unshared patch", "patch"])
def test_without_any_small_warp_nothing_changes(monkeypatch, evidence):
    found = searched(monkeypatch, (4.1, 4.0, 4.2, 3.9), evidence)
    assert (found.flagged, found.evidence, len(found.triggers)) == ((3,), evidence, 1)


def test_beside_a_patch_that_stands_out_both_are_kept(monkeypatch):
    found = searched(monkeypatch, (0.2, 4.0, 4.2, 3.9), "patch")
    assert set(found.flagged) == {0, 3}
