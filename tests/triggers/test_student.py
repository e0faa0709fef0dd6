"""A student of a network's answers to benign images, as the measure of which classes are easy by nature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from depurate.demo.digits import read_digits
from depurate.triggers import AWAY, Patch, Screening, Search, Subject
from depurate.triggers.evidence import flagged
from depurate.triggers.screening import _by_patches, _not_common
from depurate.triggers.student import Beside, beside_student, teach
from depurate.triggers.unshared import without_natural


@pytest.fixture(scope="module")
def images() -> Tensor:
    return read_digits(seed=0).benign


def linear(images: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centres = images[torch.randperm(len(images), generator=generator)[:4]].flatten(1)
    return centres.T, -0.5 * centres.square().sum(1)


def test_a_student_answers_as_the_network_does_where_it_was_not_taught(images: Tensor) -> None:
    weight, bias = linear(images)
    student = teach(lambda shown: shown.flatten(1) @ weight + bias, images[:200])
    assert student is not None
    theirs = (images[200:].flatten(1) @ weight + bias).argmax(1)
    right = float((student(images[200:]).argmax(1) == theirs).double().mean())
    assert right > 0.75
    assert student.agreement == pytest.approx(right, abs=0.1)


def test_the_agreement_is_that_of_students_that_were_each_taught_without_one_image(images: Tensor) -> None:
    weight, bias = linear(images)

    def score(shown: Tensor) -> Tensor:
        return shown.flatten(1) @ weight + bias

    some = images[:40]
    student = teach(score, some)
    assert student is not None
    known = some.flatten(1).double()
    kernel = torch.exp(-torch.cdist(known, known).square() / student.width)
    scores = score(some).double()
    scores = scores - scores.mean(1, keepdim=True)
    right = 0
    for left in range(40):
        others = [place for place in range(40) if place != left]
        system = kernel[others][:, others] + 0.01 * 40 * torch.eye(39, dtype=torch.float64)
        weights = torch.linalg.solve(system, scores[others] - scores.mean(0))
        answer = kernel[left, others] @ weights + scores.mean(0)
        right += int(answer.argmax() == scores[left].argmax())
    assert student.agreement == pytest.approx(right / 40)


@pytest.mark.parametrize("score", ["noise", "nan", "one"])
def test_no_student_of_what_cannot_be_learnt(images: Tensor, score: str) -> None:
    generator = torch.Generator().manual_seed(1)
    answers = {
        "noise": lambda shown: torch.randn(len(shown), 10, generator=generator),
        "nan": lambda shown: torch.full((len(shown), 10), torch.nan),
        "one": lambda shown: shown.flatten(1)[:, :10],
    }
    shown = torch.zeros_like(images) if score == "one" else images
    assert teach(answers[score], shown) is None


@pytest.mark.parametrize(
    ("beside", "ignored", "planted", "common"),
    [
        ((0.1, 1.0, 1.0, 1.1), (False,) * 4, (0,), ()),
        ((0.9, 1.0, 1.0, 1.1), (False,) * 4, (), (0,)),
        ((0.9, 1.0, 1.0, 1.1), (True, False, False, False), (0,), ()),
        ((0.9, 0.1, 1.0, 1.1), (False, True, False, False), (), (0,)),
        (None, None, (0,), ()),
    ],
)
def test_a_class_that_is_as_easy_for_the_student_is_not_flagged(
    images: Tensor,
    beside: tuple[float, ...] | None,
    ignored: tuple[bool, ...],
    planted: tuple[int, ...],
    common: tuple[int, ...],
) -> None:
    """Nor is one that takes no less than others, however hard it is for the student."""
    weight, bias = linear(images)
    student = teach(lambda shown: shown.flatten(1) @ weight + bias, images)
    assert student is not None
    patches = [Patch(name, torch.ones(1, 8, 8), torch.ones(1, 8, 8)) for name in range(4)]
    subject = Subject(student, images, (0, 1, 2, 3), Search(), clear=False)
    compared = None if beside is None else Beside(student, beside, 0.0, ignored)
    found = _by_patches(subject, patches, [10.0, 40.0, 40.0, 41.0], compared)
    assert (found.flagged, found.common) == (planted, common)


def test_what_leads_the_student_to_its_class_is_dropped(images: Tensor) -> None:
    weight, bias = linear(images)

    def score(shown: Tensor) -> Tensor:
        return shown.flatten(1) @ weight + bias

    subject = Subject(score, images, (0, 1, 2, 3), Search())
    centre = weight[:, 2].view(1, 8, 8)
    whole = Patch(2, torch.ones(1, 8, 8), centre)
    found = flagged(Screening((0, 1, 2, 3), (9.0,) * 4, (), ()), (whole,), "square")
    beside = beside_student(score, images, [whole] * 4, [64.0] * 4, Search(steps=2))
    assert beside is not None
    assert _not_common(subject, found, beside).flagged == ()
    assert _not_common(subject, found, beside).common == (2,)
    assert _not_common(subject, found, None) is found
    away = flagged(found, (Patch(AWAY, torch.ones(1, 8, 8), centre),), "square")
    assert _not_common(subject, away, beside) is away


def test_sizes_count_by_both_measures() -> None:
    found = Screening((0, 1, 2), (4.0, 10.0, 10.0), (), (), beside=(1.0, 1.0, 1.0))
    assert Screening((0, 1, 2), (4.0, 10.0, 10.0), (), ()).small(0, 0.5)
    assert not found.small(0, 0.5)


@pytest.mark.parametrize(
    ("size", "beside", "sure"),
    [(14.0, None, True), (18.0, None, False), (18.0, 0.3, True), (18.0, 0.5, False), (22.0, 0.1, False)],
)
def test_what_is_surely_a_short_cut(size: float, beside: float | None, sure: bool) -> None:
    theirs = None if beside is None else (beside, 1.0, 1.0)
    found = flagged(
        Screening((0, 1, 2), (size, 100.0, 100.0), (), (), beside=theirs),
        (Patch(0, torch.ones(1, 8, 8), torch.ones(1, 8, 8)),),
        "patch",
    )
    asked = Subject(lambda shown: torch.eye(3)[[0] * len(shown)], torch.rand(9, 1, 8, 8), (0, 1, 2), Search())

    def follows(shown: Tensor) -> Tensor:
        return torch.eye(3)[(shown.flatten(1).min(1).values < 1).long()]

    assert (without_natural(asked, found, lambda: follows).flagged == (0,)) is sure
