"""Entries: what is written is read back, and what is wrong is named."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from depurate import InputError
from depurate.checkpoints import file_sha256, load_state, read_checkpoint
from depurate.contamination.attacks import BadNets, Blended, InputAware
from depurate.zoo import (
    NETWORKS,
    ZooEntry,
    ZooRecord,
    entry_digest,
    load_entry,
    network,
    read_record,
    save_entry,
)


def record(**changes):
    known = {
        "name": "mnist-lenet-blended",
        "dataset": "mnist",
        "network": "lenet",
        "attack": "blended:alpha=0.3,picture=2,target=5",
        "anchor_kind": "initialisation",
        "fraction": 0.05,
        "seed": 0,
        "epochs": 3,
        "accuracy": 0.97,
        "success": 1.0,
        "seconds": 1.0,
        "versions": {"depurate": "0"},
        "mean": 0.0,
        "deviation": 1.0,
    }
    return ZooRecord(**(known | changes))


def test_an_entry_survives_the_disk(tmp_path):
    kind = network("lenet")
    attack = Blended(alpha=0.3, picture=2, target=5)
    entry = ZooEntry(kind.initialise(1), kind.initialise(2), attack, record())
    save_entry(entry, tmp_path / "one")
    save_entry(entry, tmp_path / "one")
    read = load_entry(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    assert read.attack == attack and read.record == record()
    assert not read.model.training
    for ours, theirs in ((entry.model, read.model), (entry.anchor, read.anchor)):
        for key, value in ours.state_dict().items():
            assert torch.equal(value, theirs.state_dict()[key])


def test_a_clean_entry_has_no_attack(tmp_path):
    net = network("lenet").initialise(0)
    save_entry(ZooEntry(net, net, None, record(attack=None, success=None)), tmp_path / "clean")
    assert load_entry(tmp_path / "clean").attack is None


def test_normalisation_is_that_of_the_record():
    net = network("resnet14")
    images = torch.rand(2, 3, 4, 4)
    entry = ZooEntry(net.initialise(0), net.initialise(0), None, record(mean=0.47, deviation=0.25))
    assert torch.equal(entry.normalise(images), (images - 0.47) / 0.25)
    assert torch.equal(net.normalise(images), (images - 0.47) / 0.25)


def test_faulty_records_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        load_entry(tmp_path)
    (tmp_path / "record.json").write_text("[]")
    with pytest.raises(InputError, match="not a record"):
        read_record(tmp_path / "record.json")
    known = json.loads(record().to_json())
    del known["mean"]
    (tmp_path / "record.json").write_text(json.dumps(known))
    with pytest.raises(InputError, match="lacks mean"):
        read_record(tmp_path / "record.json")


def test_an_unknown_network_is_refused():
    with pytest.raises(InputError, match="the zoo has lenet"):
        network("vgg")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_take_their_images_and_narrow_ones_share_their_keys(name):
    kind = network(name)
    images = torch.rand(2, 1, 28, 28) if name == "lenet" else torch.rand(2, 3, 32, 32)
    wide, narrow = kind.build().eval(), kind.build_narrow().eval()
    assert wide(images).shape == (2, 10) and narrow(images).shape == (2, 1)
    assert wide.state_dict().keys() == narrow.state_dict().keys()


def test_initialisation_is_decided_by_its_seed_alone():
    state = torch.get_rng_state()
    one, other = network("lenet").initialise(3), network("lenet").initialise(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.real_data
@pytest.mark.skipif("DEPURATE_MODELS" not in os.environ, reason="needs DEPURATE_MODELS")
@pytest.mark.parametrize(
    ("name", "path"), [("lenet", "lenet-mnist/clean"), ("resnet14", "resnet14-cifar10/badnets")]
)
def test_published_checkpoints_load(name, path):
    file = Path(os.environ["DEPURATE_MODELS"]) / f"{path}.safetensors"
    load_state(network(name).build(), read_checkpoint(file), source=str(file))


def test_badnets_of_an_entry_is_the_attack_of_its_spec(tmp_path):
    net = network("lenet").initialise(0)
    save_entry(ZooEntry(net, net, BadNets(), record(attack="badnets")), tmp_path / "b")
    assert load_entry(tmp_path / "b").attack == BadNets()


def test_saved_again_an_entry_has_the_same_digest_and_the_same_files(tmp_path):
    kind = network("lenet")
    entry = ZooEntry(kind.initialise(1), kind.initialise(2), BadNets(), record(attack="badnets"))
    found = set()
    for turn in range(6):
        save_entry(entry, tmp_path / str(turn))
        files = sorted((tmp_path / str(turn)).glob("*.safetensors"))
        digests = [file_sha256(path) for path in files]
        found.add((entry_digest(load_entry(tmp_path / str(turn))), *digests))
    assert len(found) == 1


def test_the_digest_tells_what_a_defence_or_its_measuring_could_see():
    kind = network("lenet")
    learnt = {"weights": torch.ones(3)}
    entry = ZooEntry(kind.initialise(1), kind.initialise(2), InputAware(learnt=learnt), record())
    others = [
        replace(entry, model=kind.initialise(3)),
        replace(entry, anchor=kind.initialise(3)),
        replace(entry, attack=None),
        replace(entry, attack=InputAware(target=3, learnt=learnt)),
        replace(entry, attack=InputAware(learnt={"weights": 2 * learnt["weights"]})),
        replace(entry, record=record(mean=0.5)),
    ]
    assert len({entry_digest(other) for other in (entry, *others)}) == 1 + len(others)
    assert entry_digest(replace(entry, record=record(seconds=9.0, note="again"))) == entry_digest(entry)
