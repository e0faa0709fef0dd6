"""`contaminate` from outside: files, masks, seeds, and bad input that leaves nothing behind."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from workplace import make_workplace


@pytest.fixture
def work(tmp_path):
    return make_workplace(tmp_path)


def test_the_mask_names_every_entry_that_differs(work):
    spec = "sparse:rate=0.3,law=gaussian,scale=10"
    done = work.run(
        "contaminate",
        "suspect.safetensors",
        "--noise",
        spec,
        "--seed",
        "3",
        "--out",
        "hit.safetensors",
        "--mask",
        "mask.safetensors",
        "--layers",
        "*.weight",
    )
    assert done.returncode == 0, done.stderr
    clean, hit, mask = (load_file(work.folder / f"{name}.safetensors") for name in ("suspect", "hit", "mask"))
    assert set(mask) == {name for name in clean if name.endswith(".weight")}
    for name, value in clean.items():
        wanted = mask.get(name, torch.zeros_like(value, dtype=torch.bool))
        assert torch.equal(hit[name] != value, wanted), name
    assert sum(int(value.sum()) for value in mask.values()) > 50
    with safe_open(work.folder / "hit.safetensors", "pt") as file:
        assert file.metadata()["depurate_noise"] == spec


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--noise", "sparks:rate=0.1"), "unknown kind"),
        (("--noise", "signflip:rate=3"), "rate"),
        (("--noise", "signflip:rate=0.1", "--layers", "nothing*"), "selects none"),
        (("--noise", "signflip:rate=0.1", "--mask", "hit.safetensors"), "mask"),
        (("--noise", "signflip:rate=0.1", "--mask", "suspect.safetensors", "--force"), "input"),
    ],
)
def test_bad_input_ends_in_one_line(work, extra, said):
    done = work.run("contaminate", "suspect.safetensors", "--out", "hit.safetensors", *extra)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "hit.safetensors" not in work.files()


def test_layers_may_be_named_as_in_a_file_with_a_prefix(work):
    state = load_file(work.folder / "suspect.safetensors")
    save_file({f"module.{name}": value for name, value in state.items()}, work.folder / "wrapped.safetensors")
    asked = (
        "--noise",
        "sparse:rate=0.5",
        "--layers",
        "module.0.*,!module.0.bias",
        "--out",
        "hit.safetensors",
    )
    done = work.run("contaminate", "wrapped.safetensors", *asked)
    assert done.returncode == 0, done.stderr
    hit = load_file(work.folder / "hit.safetensors")
    assert [name for name, value in state.items() if not torch.equal(hit[f"module.{name}"], value)] == [
        "0.weight"
    ]


def test_a_share_out_of_range_is_told_as_it_was_written(work):
    done = work.run(
        "contaminate", "suspect.safetensors", "--noise", "sparse:rate=2", "--out", "hit.safetensors"
    )
    assert (done.returncode, done.stderr) == (
        2,
        "depurate: sparse:rate=2: rate must be a number from 0 to 1\n",
    )


def test_a_zoo_without_data_leaves_no_empty_folder(work):
    done = work.run("zoo", "all", "--data", "nowhere", "--out", "zz")
    assert done.returncode == 2 and "zz" not in work.files()
