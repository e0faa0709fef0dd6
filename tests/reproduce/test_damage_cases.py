"""What a case of the study of deep networks says it rests on is what its run rests on."""

from types import SimpleNamespace

import pytest
import torch

from depurate.reproduce.cifar import damages
from depurate.reproduce.cifar.images import source_of
from depurate.reproduce.cifar.networks import Suspect, kept_files, kind_of, recipe_of
from depurate.zoo import Data


@pytest.fixture
def places(tmp_path):
    for name in ("data/cifar10/train.zip", "data/cifar10/test.zip"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    given = tmp_path / "models" / "lenet-cifar10"
    given.mkdir(parents=True)
    for name in ("clean", "init"):
        (given / f"{name}.safetensors").write_bytes(name.encode())
    return damages.Places(tmp_path / "data", tmp_path / "models", tmp_path / "kept")


def keys(places):
    study = damages.study(places, quick=True, seeds=1)
    return {study.key(case) for case in study.cases}, study.cases


@pytest.mark.parametrize("file", ["cifar10/train.zip", "cifar10/test.zip"])
def test_other_pictures_are_other_cases(places, file):
    before, _ = keys(places)
    (places.data / file).write_bytes(b"other pictures")
    after, _ = keys(places)
    assert not before & after


def test_another_initialisation_makes_other_cases_of_the_given_network(places):
    before, cases = keys(places)
    (places.models / "lenet-cifar10" / "init.safetensors").write_bytes(b"another")
    after, _ = keys(places)
    given = [case for case in cases if case.given]
    assert given and len(before & after) == len(cases) - len(given)


def test_a_network_trained_on_other_pictures_is_kept_beside(places):
    recipe, source = recipe_of("lenet", quick=True), source_of(places.data)
    (places.data / "cifar10" / "train.zip").write_bytes(b"other pictures")
    files = [
        kept_files(places.kept, "lenet", "clean", recipe, 0, data)
        for data in (source, source_of(places.data), source_of(places.kept))
    ]
    assert len(set(files)) == 3
    assert source_of(places.kept) == "original"


def test_purify_is_given_the_seed_of_the_case(places, monkeypatch):
    kind, seeds = kind_of("lenet"), []
    images, labels = torch.rand(6, 3, 32, 32), torch.arange(6)
    data = Data("cifar10", images, labels, images, labels, "")
    suspect = Suspect(kind.initialise(0).eval(), kind.initialise(1).eval(), kind, None, "")

    def purified(model, benign, *, seed=0, **settings):
        seeds.append(seed)
        return SimpleNamespace(model=model, record=SimpleNamespace(guarantee="none"))

    monkeypatch.setattr(damages, "_suspect", lambda *known: (suspect, data))
    monkeypatch.setattr(damages, "_METHODS", {"cut": "", "auto": ""})
    monkeypatch.setattr(damages.depurate, "purify", purified)
    case = damages.DamageCase("lenet", "clean", "none", "", "", "", "", 2, 4, seed=7)
    damages.run(places, True, case)
    assert seeds == [7, 7]
