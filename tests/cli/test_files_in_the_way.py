"""Names, folders and numbers that once ended in a traceback, or took a file of the user's with them."""

import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from depurate.cli.demo import _prepare
from depurate.errors import InputError
from workplace import make_workplace


@pytest.fixture
def work(tmp_path):
    return make_workplace(tmp_path)


def refused(done, *said):
    assert done.returncode == 2, (done.stdout, done.stderr)
    (line,) = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("depurate: ")
    for words in said:
        assert words in line


def test_a_dict_beside_tensors_does_not_hide_them(work):
    state = load_file(work.folder / "suspect.safetensors")
    torch.save({**state, "2._extra_state": {"scale": torch.ones(3)}}, work.folder / "extra.pt")
    refused(work.run("inspect", "extra.pt"), "extra.pt", "2._extra_state is a dict")


def test_a_project_with_a_file_of_the_demos_name_is_left_alone(tmp_path):
    mine = tmp_path / "network.py"
    mine.write_text("precious")
    with pytest.raises(InputError, match="not a folder of an earlier demo"):
        _prepare(tmp_path)
    assert mine.read_text() == "precious"


def test_the_demo_goes_over_what_an_earlier_one_left(tmp_path):
    _prepare(tmp_path / "demo")
    _prepare(tmp_path / "demo")  # interrupted at once
    (tmp_path / "demo" / "network.py").write_text("of another version")
    (tmp_path / "demo" / "demo.json").write_text("{}")
    _prepare(tmp_path / "demo")


def test_links_in_a_circle_and_endless_names_end_in_one_line(work):
    (work.folder / "loop.json").symlink_to("loop.json")
    refused(work.run("inspect", "suspect.safetensors", "--json", "loop.json"), "loop.json")
    refused(work.run("inspect", "suspect.safetensors", "--json", "a" * 300), "cannot be written")


def test_inputs_are_never_written_over(work):
    code = (work.folder / "arch.py").read_text()
    refused(work.purify("--report", "arch.py", "--force"), "arch.py", "one of the input files")
    assert (work.folder / "arch.py").read_text() == code
    (work.folder / "pictures").mkdir()
    (work.folder / "pictures" / "a.png").write_bytes(b"mine")
    refused(
        work.purify("--report", "pictures/a.png", "--force", images="pictures"), "a.png", "among the images"
    )
    assert (work.folder / "pictures" / "a.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "option", [("--device", "cuda:01"), ("--device", "cuda:99999999999"), ("--size", "1000000")]
)
def test_absurd_numbers_end_in_one_line(work, option):
    refused(work.purify(*option))


def test_a_seed_that_no_generator_takes_is_an_option_out_of_range(work):
    done = work.purify("--seed", "99999999999999999999")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--seed" in done.stderr


def test_arrays_under_another_suffix_are_named(work):
    (work.folder / "other.npy").write_bytes((work.folder / "benign.npz").read_bytes())
    refused(work.purify(images="other.npy"), "other.npy")


def test_images_that_are_all_the_same_are_refused(work):
    np.save(work.folder / "same.npy", np.ones((60, 1, 8, 8), np.float32))
    refused(work.purify(images="same.npy"), "all 60 are the same picture")


def test_an_array_may_have_the_channels_that_the_network_takes(work):
    (work.folder / "two.py").write_text(
        "from torch import nn\n\n"
        "def net():\n    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(144, 3))\n"
    )
    net = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Flatten(), torch.nn.Linear(144, 3))
    save_file(net.state_dict(), work.folder / "two.safetensors")
    np.save(work.folder / "two.npy", np.random.default_rng(0).random((60, 2, 8, 8), np.float32))
    done = work.run(
        *("purify", "two.safetensors", "--arch", "two.py:net", "--images", "two.npy"),
        *("--method", "soft", "--strength", "0.1"),
    )
    assert done.returncode == 0, done.stderr


def test_control_characters_do_not_reach_the_terminal(work):
    torch.save({"a\x1b]0;owned\x07\x1b[31mred\nline": torch.ones(3)}, work.folder / "odd.pt")
    done = work.run("inspect", "odd.pt")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "\x07" not in done.stdout


def test_one_huge_number_of_double_precision_is_written_as_a_number(work):
    clean = {"w": torch.ones(4, 4).double(), "b": torch.full((4,), 1e-300).double()}
    hit = {key: value.clone() for key, value in clean.items()}
    hit["w"][0, 0] = 1e300
    hit["b"][0] = 1e300
    save_file(clean, work.folder / "clean.safetensors")
    save_file(hit, work.folder / "hit.safetensors")
    done = work.run("inspect", "hit.safetensors", "--anchor", "clean.safetensors", "--json", "found.json")
    assert done.returncode == 0, done.stderr
    assert "Infinity" not in (work.folder / "found.json").read_text()


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
def test_names_that_are_no_text_are_refused_before_any_work(work):
    name = os.fsdecode(b"caf\xe9.safetensors")
    (work.folder / "suspect.safetensors").rename(work.folder / name)
    refused(work.purify(suspect=name), "is not text in UTF-8")


def test_a_file_where_a_folder_is_wanted_ends_in_one_line(work):
    (work.folder / "taken").write_text("")
    refused(work.run("bench", "solver", "--quick", "--rivals", "", "--out", "taken"), "taken")
    done = work.run("zoo", "train", "clean", "--data", ".", "--name", "a/../b", "--out", "zoo")
    refused(done, "a/../b")


@pytest.mark.parametrize("design", [np.full((50, 3), np.nan), np.zeros((50, 0)), np.full((50, 3), "a")])
def test_a_design_for_the_benchmark_is_looked_at_first(work, design):
    np.savez(work.folder / "design.npz", design=design)
    refused(
        work.run("bench", "solver", "--design", "design.npz", "--rivals", "", "--out", "out"), "design.npz"
    )
