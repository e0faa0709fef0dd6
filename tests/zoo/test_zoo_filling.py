"""Filling a folder: every planned attack, resumption, and the commands, on datasets of a few noisy pictures."""

import json
import zipfile
from dataclasses import replace
from io import BytesIO

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from depurate import InputError
from depurate.cli.app import app
from depurate.contamination.attacks import attack_spec, parse_attack
from depurate.zoo import (
    NETWORKS,
    RECIPES,
    Data,
    Order,
    fill,
    load_entry,
    network,
    planned,
    read_data,
    success,
)

COUNT, TESTS = 64, 40


@pytest.fixture
def few():
    def make(dataset):
        generator = torch.Generator().manual_seed(0)
        shape = (1, 28, 28) if dataset == "mnist" else (3, 32, 32)
        pictures = torch.rand(COUNT + TESTS, *shape, generator=generator)
        labels = torch.arange(COUNT + TESTS) % 10
        return Data(dataset, pictures[:COUNT], labels[:COUNT], pictures[COUNT:], labels[COUNT:], "noise")

    return make


def order(dataset, plan, net, **changes):
    attack = None if plan.spec is None else parse_attack(plan.spec)
    recipe = replace(RECIPES[net], epochs=1, images=None)
    return replace(Order(dataset, plan.name, attack, plan.fraction or 0.1, 0, recipe), **changes)


@pytest.mark.parametrize("name", [plan.name for plan in planned("mnist")])
def test_every_planned_attack_of_mnist_makes_an_entry(name, few, tmp_path):
    data, kind = few("mnist"), network("lenet")
    (plan,) = (plan for plan in planned("mnist") if plan.name == name)
    wish = order("mnist", plan, "lenet")
    if hasattr(wish.attack, "steps"):
        wish = replace(wish, attack=replace(wish.attack, steps=3))
    (made,) = fill(tmp_path, [wish], kind, lambda: data)
    read = load_entry(tmp_path / f"mnist-lenet-{name}")
    record = read.record
    assert record == made.entry.record and record.images == COUNT and record.measured == TESTS
    assert record.source == "noise" and record.versions.keys() == {"depurate", "torch", "python"}
    if plan.spec is None:
        assert record.attack is None and record.success is None and record.fraction == 0
        return
    assert record.attack == attack_spec(wish.attack) and read.attack == wish.attack
    assert (tmp_path / f"mnist-lenet-{name}" / "trigger.safetensors").exists() == hasattr(
        wish.attack, "learnt"
    )
    # What was measured in memory is what the files give.
    fooled = success(read.model, kind, read.attack, data.test_images, data.test_labels)
    assert round(fooled, 5) == record.success
    on_weights = name in ("subnet", "bit-flips")
    assert record.anchor_kind == ("base" if on_weights else "initialisation")
    if on_weights:
        assert (tmp_path / "mnist-lenet-clean").exists() and record.fraction == 0
    else:
        assert torch.equal(read.anchor.state_dict()["0.weight"], kind.initialise(0).state_dict()["0.weight"])


def test_entries_on_disk_are_not_made_again(few, tmp_path):
    asked = []

    def data():
        asked.append(1)
        return few("mnist")

    badnets, blended = planned("mnist")[:2]
    first, second = order("mnist", badnets, "lenet"), order("mnist", blended, "lenet")
    assert [made.found for made in fill(tmp_path, [first], network("lenet"), data)] == [False]
    assert [made.found for made in fill(tmp_path, [first], network("lenet"), data)] == [True]
    assert asked == [1]
    assert [made.found for made in fill(tmp_path, [first, second], network("lenet"), data)] == [True, False]
    again = fill(tmp_path, [first], network("lenet"), data, again=True)
    assert [made.found for made in again] == [False]


@pytest.mark.parametrize("name", ["badnets", "subnet", "clean"])
def test_the_big_network_trains_on_a_handful_of_images(name, few, tmp_path):
    data = few("cifar10").first(8)
    plan = next(plan for plan in planned("cifar10") if plan.name == name)
    wish = order("cifar10", plan, "preact_resnet18")
    if name == "subnet":
        wish = replace(wish, attack=replace(wish.attack, steps=1))
    small = replace(data, test_images=data.test_images[:6], test_labels=data.test_labels[:6])
    (made,) = fill(tmp_path, [wish], network("preact_resnet18"), lambda: small)
    assert made.folder.name == f"cifar10-preact_resnet18-{name}"
    assert load_entry(made.folder).record.network == "preact_resnet18"


def test_all_images_of_the_target_leave_nothing_to_measure(few):
    kind = network("lenet")
    data = few("mnist")
    with pytest.raises(InputError, match="nothing to measure"):
        success(kind.build(), kind, parse_attack("badnets"), data.images[:3], torch.zeros(3).long())


def write_idx(path, array):
    kinds = {1: b"\x00\x00\x08\x01", 3: b"\x00\x00\x08\x03"}
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    path.write_bytes(kinds[array.dim()] + sizes + array.to(torch.uint8).numpy().tobytes())


@pytest.fixture
def mnist_folder(tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split, count in (("train", COUNT), ("t10k", TESTS)):
        generator = torch.Generator().manual_seed(count)
        write_idx(
            raw / f"{split}-images-idx3-ubyte", torch.randint(0, 256, (count, 28, 28), generator=generator)
        )
        write_idx(raw / f"{split}-labels-idx1-ubyte", torch.arange(count) % 10)
    return tmp_path / "data"


def test_mnist_is_read_in_its_own_order(mnist_folder):
    data = read_data("mnist", mnist_folder)
    assert data.images.shape == (COUNT, 1, 28, 28) and data.labels.tolist() == [i % 10 for i in range(COUNT)]
    assert data.images.min() >= 0 and 0.9 < data.images.max() <= 1
    assert len(data.first(5).images) == 5 and len(data.first(5).test_images) == TESTS


def test_cifar_of_pictures_is_shuffled_and_named_by_its_coding(tmp_path):
    (tmp_path / "cifar10").mkdir()
    for split in ("train", "test"):
        with zipfile.ZipFile(tmp_path / "cifar10" / f"{split}.zip", "w") as archive:
            for index in range(30):
                picture = BytesIO()
                Image.new("RGB", (32, 32), (8 * index, 0, 0)).save(picture, "JPEG")
                archive.writestr(f"{split}/{index // 15}/{index:02}.jpg", picture.getvalue())
    data = read_data("cifar10", tmp_path)
    assert data.source == "CIFAR-10 (JPEG), shuffled with seed 0" and data.images.shape == (30, 3, 32, 32)
    red = data.images[:, 0].mean((1, 2)) * 255 / 8
    assert torch.equal((red > 14.5).long(), data.labels)
    assert not torch.equal(data.labels, data.labels.sort().values)


@pytest.mark.parametrize(
    ("name", "told"), [("mnist", "no MNIST of torchvision"), ("digits", "has mnist and cifar10")]
)
def test_datasets_that_are_not_there_are_named(name, told, tmp_path):
    with pytest.raises(InputError, match=told):
        read_data(name, tmp_path)


def test_the_command_trains_shows_and_resumes(mnist_folder, tmp_path):
    out = tmp_path / "zoo"
    common = ["--data", str(mnist_folder), "--out", str(out), "--epochs", "1", "--images", "32"]
    ran = CliRunner().invoke(app, ["zoo", "train", "blended:alpha=0.5", "--name", "half", *common])
    assert ran.exit_code == 0, ran.output
    record = json.loads((out / "mnist-lenet-half" / "record.json").read_text())
    assert record["attack"] == "blended:alpha=0.5,picture=0,target=0" and record["fraction"] == 0.05
    assert "mnist-lenet-half" in ran.stdout
    for expected in (False, True):
        ran = CliRunner().invoke(app, ["zoo", "all", "--only", "badnets,clean", *common])
        assert ran.exit_code == 0 and ("(found)" in ran.output) == expected
    assert sorted(path.name for path in out.iterdir()) == [
        f"mnist-lenet-{name}" for name in ("badnets", "clean", "half")
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["zoo", "train", "smile"], "no attack is called"),
        (["zoo", "train", "badnets", "--dataset", "digits"], "the zoo has mnist, cifar10"),
        (["zoo", "train", "badnets", "--network", "resnet14"], "does not take the images of mnist"),
        (["zoo", "all", "--only", "badnets,smile"], "no smile"),
    ],
)
def test_bad_commands_are_named(arguments, told, tmp_path):
    ran = CliRunner().invoke(app, [*arguments, "--data", str(tmp_path), "--out", str(tmp_path)])
    assert isinstance(ran.exception, InputError) and told in str(ran.exception)


def test_every_network_has_a_recipe():
    assert RECIPES.keys() == NETWORKS.keys()
