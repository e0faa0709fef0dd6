"""`inspect`, `demo` and the help."""

from __future__ import annotations

import json
import shlex

import pytest
import torch
from safetensors.torch import load_file, save_file

from workplace import make_workplace


@pytest.fixture
def work(tmp_path):
    return make_workplace(tmp_path)


def test_inspect_names_what_is_hit(work):
    state = load_file(work.folder / "suspect.safetensors")
    state["4.weight"][0, :2] = torch.tensor([float("inf"), 1e30])
    save_file(state, work.folder / "hit.safetensors")
    done = work.run("inspect", "hit.safetensors", "--anchor", "suspect.safetensors", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    assert "2 of" in done.stdout
    found = {entry["name"]: entry for entry in json.loads((work.folder / "found.json").read_text())}
    assert (found["4.weight"]["nonfinite"], found["4.weight"]["absurd"]) == (1, 1)
    assert found["0.weight"]["finding"] == "equal to the anchor"


def test_inspect_finds_an_anchor_that_something_is_around(work):
    state = load_file(work.folder / "suspect.safetensors")
    save_file({f"model.{key}": value for key, value in state.items()}, work.folder / "lit.safetensors")
    for suspect, anchor in (("suspect", "lit"), ("lit", "suspect")):
        done = work.run("inspect", f"{suspect}.safetensors", "--anchor", f"{anchor}.safetensors")
        assert done.returncode == 0, done.stderr
        assert "equal to the anchor" in done.stdout


def test_whole_numbers_alone_are_refused(work):
    save_file({"fc.weight": torch.ones(3, 2, dtype=torch.int8)}, work.folder / "small.safetensors")
    for command in (("inspect",), ("contaminate", "--noise", "bitflip:rate=0.1", "--out", "hit.safetensors")):
        done = work.run(command[0], "small.safetensors", *command[1:])
        assert done.returncode == 2
        assert "no floating-point tensors" in done.stderr and "dequantise" in done.stderr


def test_inspect_refuses_an_anchor_of_another_shape(work):
    save_file({"0.weight": torch.zeros(2)}, work.folder / "anchor.safetensors")
    done = work.run("inspect", "suspect.safetensors", "--anchor", "anchor.safetensors")
    assert done.returncode == 2 and "0.weight" in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command", [(), ("demo",), ("purify",), ("inspect",), ("bench",), ("bench", "solver")]
)
def test_help_teaches(work, command):
    done = work.run(*command, "--help")
    assert done.returncode == 0 and "Usage" in done.stdout


def test_version(work):
    assert work.run("--version").stdout.startswith("depurate ")


def test_demo_recovers_exactly_and_removes_the_backdoor(work):
    done = work.run("demo", "--out", "a demo")
    assert done.returncode == 0, done.stderr
    figures = json.loads((work.folder / "a demo" / "demo.json").read_text())
    assert figures["exact"]["certified"] == [501, 501]
    assert max(figures["exact"]["kernels"], figures["exact"]["output"]) < 1e-12
    assert figures["before"]["attack_success"] > 0.9
    assert figures["after"]["attack_success"] < 0.05
    assert figures["after"]["accuracy"] > figures["before"]["accuracy"] - 0.03
    inspect, purify = (
        shlex.split(line) for line in done.stdout.splitlines() if line.startswith("   depurate ")
    )
    assert work.run(*inspect[1:]).returncode == 0
    by_hand = work.run(*purify[1:])
    assert by_hand.returncode == 0, by_hand.stderr
    shown, ours = (load_file(work.folder / name) for name in ("a demo/purified.safetensors", purify[-1]))
    assert all(torch.equal(value, ours[name]) for name, value in shown.items())
    modes = {path.stat().st_mode for path in (work.folder / "a demo").iterdir() if path.is_file()}
    assert len(modes) == 1


def test_demo_removes_another_backdoor_too(work):
    done = work.run("demo", "--seed", "1", "--out", "demo")
    assert done.returncode == 0, done.stderr
    figures = json.loads((work.folder / "demo" / "demo.json").read_text())
    assert figures["before"]["attack_success"] > 0.9
    assert figures["after"]["attack_success"] < 0.05
    assert figures["after"]["accuracy"] > figures["before"]["accuracy"] - 0.03


def test_demo_does_not_touch_a_folder_that_is_not_its_own(work):
    (work.folder / "mine").mkdir()
    (work.folder / "mine" / "letter.txt").write_text("dear")
    done = work.run("demo", "--out", "mine")
    assert done.returncode == 2 and "mine" in done.stderr


def test_inspect_refuses_an_anchor_with_nan(work):
    state = load_file(work.folder / "suspect.safetensors")
    state["0.bias"][1] = float("nan")
    save_file(state, work.folder / "anchor.safetensors")
    done = work.run("inspect", "suspect.safetensors", "--anchor", "anchor.safetensors")
    assert done.returncode == 2 and "0.bias has 1 NaN or Inf" in done.stderr
