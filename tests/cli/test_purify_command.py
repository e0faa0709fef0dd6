"""The command from end to end, as a user runs it: files in, files out, one line and exit code 2 on bad input."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from depurate.cli.console import layer_table
from depurate.recovery import Guarantee, LayerRecord
from workplace import make_workplace, network


@pytest.fixture
def work(tmp_path):
    return make_workplace(tmp_path)


def test_purify_writes_checkpoint_report_and_json(work):
    before = (work.folder / "suspect.safetensors").read_bytes()
    done = work.purify(
        "--out", "pure.safetensors", "--report", "r.html", "--json", "r.json", "--strength", "0.1"
    )
    assert done.returncode == 0, done.stderr
    suspect, pure = (
        load_file(work.folder / "suspect.safetensors"),
        load_file(work.folder / "pure.safetensors"),
    )
    assert {key: (value.dtype, value.shape) for key, value in pure.items()} == {
        key: (value.dtype, value.shape) for key, value in suspect.items()
    }
    assert not torch.equal(pure["4.weight"], suspect["4.weight"])
    assert (work.folder / "suspect.safetensors").read_bytes() == before
    with safe_open(work.folder / "pure.safetensors", "pt") as file:
        assert file.metadata()["depurate_source"] == "suspect.safetensors"
    account = json.loads((work.folder / "r.json").read_text())
    assert [layer["name"] for layer in account["layers"]] == ["0", "1", "4"]
    assert account["guarantee"] == "approximate"
    page = (work.folder / "r.html").read_text()
    assert "suspect.safetensors" in page and "sha256" in page
    assert "approximate" in done.stdout and "pure.safetensors" in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_too_few_images_name_what_is_short(work):
    (work.folder / "pictures").mkdir()
    for index, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (9, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(work.folder / "pictures" / f"{index}.png")
    (work.folder / "pictures" / "broken.png").write_bytes(b"not a picture")
    few = work.purify(images="pictures")
    assert few.returncode == 2
    assert "pictures: 9 images to be had, 1 more cannot be read (broken.png: " in few.stderr
    assert "at least 10 are needed" in few.stderr
    limited = work.purify("--limit", "5")
    assert (limited.returncode, limited.stderr) == (2, "depurate: --limit 5: at least 10 images are needed\n")


def test_long_names_of_layers_stay_apart_in_the_terminal():
    sizes = (27, 8, 100, 27, "soft", 0.1, 0, 0, 0, None, None, 0.1, None, Guarantee.APPROXIMATE)
    names = [f"resnet.encoder.stages.{stage}.layers.0.convolution" for stage in range(3)]
    text = Console(width=80, file=io.StringIO())
    text.print(layer_table([LayerRecord(name, "Conv2d", *sizes) for name in names]))
    shown = "".join(line[:18].strip() for line in text.file.getvalue().splitlines())
    assert all(name in shown for name in names)


def test_which_of_several_state_dicts_was_taken_is_told(work):
    state = load_file(work.folder / "suspect.safetensors")
    torch.save({"model": state, "model_ema": state}, work.folder / "both.pt")
    asked = ("--strength", "0.1", "--method", "soft", "--report", "r.html", "--json", "r.json")
    done = work.purify(*asked, suspect="both.pt")
    assert done.returncode == 0, done.stderr
    assert "both.pt: read model (left out: model_ema)" in done.stdout
    assert "model (left out: model_ema)" in (work.folder / "r.html").read_text()
    source = json.loads((work.folder / "r.json").read_text())["source"]
    assert source["suspect's entry"] == "model (left out: model_ema)"
    assert len(source["suspect sha256"]) == 64 and source["command"].startswith("depurate purify")


def test_a_device_that_is_not_there_is_named_before_anything_is_read(work):
    done = work.purify("--out", "pure.safetensors", "--device", "abacus")
    assert done.returncode == 2 and done.stderr == "depurate: device 'abacus': expected cpu, cuda or cuda:N\n"
    assert "pure.safetensors" not in work.files()


def test_a_device_without_enough_memory_ends_in_one_line_that_says_what_takes_less(work):
    done = work.purify("--out", "pure.safetensors", arch="greedy")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "device 'cpu': out of memory with images of shape (" in done.stderr and "--limit" in done.stderr
    assert "pure.safetensors" not in work.files()


def test_output_goes_beside_the_suspect_unless_told_otherwise(work):
    assert work.purify("--strength", "0.1").returncode == 0
    assert "suspect-purified.safetensors" in work.files()


def test_existing_files_are_kept_unless_forced(work):
    (work.folder / "pure.safetensors").write_text("precious")
    refused = work.purify("--out", "pure.safetensors")
    assert refused.returncode == 2
    assert (
        refused.stderr == "depurate: pure.safetensors: exists already; choose another name or give --force\n"
    )
    assert (work.folder / "pure.safetensors").read_text() == "precious"
    assert work.purify("--out", "pure.safetensors", "--strength", "0.1", "--force").returncode == 0
    assert load_file(work.folder / "pure.safetensors")


@pytest.mark.parametrize("option", ["--out", "--report", "--json"])
def test_the_suspect_is_never_overwritten(work, option):
    before = (work.folder / "suspect.safetensors").read_bytes()
    done = work.purify(option, "suspect.safetensors", "--force")
    assert done.returncode == 2
    assert (work.folder / "suspect.safetensors").read_bytes() == before


def test_a_folder_of_pictures_and_normalisation(work):
    (work.folder / "pictures").mkdir()
    for index, pixels in enumerate(np.random.default_rng(1).integers(0, 256, (55, 8, 8), dtype=np.uint8)):
        Image.fromarray(pixels).save(work.folder / "pictures" / f"{index}.png")
    (work.folder / "pictures" / "broken.png").write_bytes(b"not a picture")
    done = work.purify("--strength", "0.1", "--normalize", "0.5,0.5", images="pictures")
    assert done.returncode == 0, done.stderr
    assert "1 image was unreadable and skipped, first broken.png" in " ".join(done.stdout.split())


@pytest.mark.parametrize("colour", [True, False])
def test_coloured_pictures_stay_coloured_where_a_convolution_of_one_channel_is_registered_first(work, colour):
    (work.folder / "attentive.py").write_text(
        "from torch import nn\n\n"
        "class Attentive(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.places, self.stem = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(3, 4, 3)\n"
        "        self.head = nn.Linear(144, 3)\n"
        "    def forward(self, x):\n"
        "        return self.head(self.stem(x * self.places(x.mean(1, keepdim=True))).flatten(1))\n"
    )
    scope: dict = {}
    exec((work.folder / "attentive.py").read_text(), scope)
    torch.save(scope["Attentive"]().state_dict(), work.folder / "attentive.pt")
    (work.folder / "pictures").mkdir()
    shape = (55, 8, 8, 3) if colour else (55, 8, 8)
    for index, pixels in enumerate(np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)):
        Image.fromarray(pixels).save(work.folder / "pictures" / f"{index}.png")
    asked = (
        "--arch",
        "attentive.py:Attentive",
        "--images",
        "pictures",
        "--method",
        "soft",
        "--strength",
        "0.1",
    )
    done = work.run("purify", "attentive.pt", *asked)
    assert done.returncode == 0, done.stderr


def test_damaged_memory_is_repaired_and_the_rest_kept_bit_for_bit(work):
    state = load_file(work.folder / "suspect.safetensors")
    clean = {key: value.clone() for key, value in state.items()}
    state["4.weight"][1, 5] = float("nan")
    state["0.weight"][2, 0, 1, 1] = 3e38
    save_file(state, work.folder / "hit.safetensors")
    done = work.purify("--out", "pure.safetensors", "--json", "r.json", suspect="hit.safetensors")
    assert done.returncode == 0, done.stderr
    pure = load_file(work.folder / "pure.safetensors")
    for key, value in pure.items():
        hit = state[key] != clean[key]
        assert value.isfinite().all()
        assert torch.equal(value[~hit], clean[key][~hit]), key
    layers = {layer["name"]: layer for layer in json.loads((work.folder / "r.json").read_text())["layers"]}
    assert layers["4"]["nonfinite"] == 1 and layers["4"]["contaminated"] == 1
    assert layers["0"]["contaminated"] == 1
    assert any("NaN or Inf" in note for note in layers["4"]["notes"])


def test_exact_without_certificates_exits_with_1(work):
    done = work.purify("--method", "exact", "--out", "pure.safetensors")
    assert done.returncode == 1, done.stderr
    assert (work.folder / "pure.safetensors").exists()


def test_equal_seeds_give_equal_files(work):
    for name in ("a", "b"):
        assert work.purify("--out", f"{name}.safetensors", "--strength", "0.1").returncode == 0
    one, other = load_file(work.folder / "a.safetensors"), load_file(work.folder / "b.safetensors")
    assert all(torch.equal(one[key], other[key]) for key in one)


def _truncate(work):
    data = (work.folder / "suspect.safetensors").read_bytes()
    (work.folder / "bad.safetensors").write_bytes(data[: len(data) // 2])


def _text(work):
    (work.folder / "bad.safetensors").write_text("hello")


class _Evil:
    def __reduce__(self):
        return print, ("ran",)


def _code(work):
    torch.save({"state_dict": _Evil()}, work.folder / "bad.safetensors")


def _nothing(work):
    """Leave the file missing."""


def _other_keys(work):
    save_file({"elsewhere": torch.zeros(3)}, work.folder / "bad.safetensors")


@pytest.mark.parametrize("spoil", [_truncate, _text, _code, _nothing, _other_keys])
def test_bad_checkpoints_end_in_one_line(work, spoil):
    spoil(work)
    _refused(work, work.purify("--out", "pure.safetensors", suspect="bad.safetensors"), "bad.safetensors")


def test_another_architecture_names_keys_and_shapes(work):
    done = work.purify("--out", "pure.safetensors", arch="wider")
    _refused(work, done, "(4, 1, 3, 3)", "(5, 1, 3, 3)")


def test_another_anchor_names_keys_and_shapes(work):
    state = {key: value.clone() for key, value in network().state_dict().items()}
    state["4.weight"] = torch.zeros(3, 100)
    save_file(state, work.folder / "anchor.safetensors")
    done = work.purify("--anchor", "anchor.safetensors", "--out", "pure.safetensors")
    _refused(work, done, "anchor.safetensors", "4.weight", "(3, 100)", "(3, 144)")


@pytest.mark.parametrize(
    ("shape", "said"),
    [((0, 1, 8, 8), ""), ((60, 2, 8, 8), "2"), ((5, 1, 8, 8), "5"), ((60, 1, 20, 20), "(1, 20, 20)")],
    ids=["empty", "channels", "few", "size"],
)
def test_bad_images_end_in_one_line(work, shape, said):
    np.savez(work.folder / "odd.npz", images=np.zeros(shape, np.float32))
    _refused(work, work.purify("--out", "pure.safetensors", images="odd.npz"), said)


def test_nan_images_and_empty_folders_end_in_one_line(work):
    np.savez(work.folder / "odd.npz", images=np.full((60, 1, 8, 8), np.nan, np.float32))
    _refused(work, work.purify("--out", "pure.safetensors", images="odd.npz"), "odd.npz")
    (work.folder / "empty").mkdir()
    _refused(work, work.purify("--out", "pure.safetensors", images="empty"), "empty")


@pytest.mark.parametrize(
    "extra",
    [
        ("--strength", "0"),
        ("--strength", "nan"),
        ("--method", "exact", "--strength", "0.1"),
        ("--method", "soft", "--distil"),
        ("--normalize", "half"),
        ("--limit", "0"),
        ("--out", "no/such/folder/pure.safetensors"),
        ("--report", "no/such/folder/r.html"),
        ("--out", "pure.bin"),
    ],
    ids=" ".join,
)
def test_bad_options_end_in_one_line(work, extra):
    _refused(work, work.purify(*extra))


def _refused(work, done, *said):
    assert done.returncode == 2, (done.stdout, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("depurate: "), done.stderr
    for words in said:
        assert words in lines[0]
    assert not {"pure.safetensors", "r.html", "pure.bin", "suspect-purified.safetensors"} & work.files()
    assert not [name for name in work.files() if name.endswith(".partial")]


def test_exact_recovery_knows_how_coarse_the_numbers_of_the_file_are(work):
    """Half precision is loaded into float32; what rounding left is no noise all the same."""
    (work.folder / "arch.py").write_text(
        "from torch import nn\n\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(196, 8, bias=False))\n"
    )
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(12, 1, 14, 14, generator=draw)
    start = 0.05 * torch.randn(8, 196, generator=draw)
    clean = (start + 0.05 * torch.randn(8, 12, generator=draw) @ images.flatten(1)).half()
    hit = torch.where(torch.rand(8, 196, generator=draw) < 0.1, clean + 1, clean)
    np.savez(work.folder / "few.npz", images=images.numpy())
    save_file({"1.weight": start}, work.folder / "start.safetensors")
    save_file({"1.weight": hit}, work.folder / "half.safetensors")
    done = work.purify(
        "--method",
        "exact",
        "--anchor",
        "start.safetensors",
        "--out",
        "pure.safetensors",
        suspect="half.safetensors",
        images="few.npz",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pure = load_file(work.folder / "pure.safetensors")["1.weight"]
    assert pure.dtype == torch.float16
    assert (pure.float() - clean.float()).abs().max() < 2e-3


def test_a_report_that_cannot_be_written_takes_nothing_with_it(work, monkeypatch, capsys):
    from depurate.cli import app as command
    from depurate.errors import InputError
    from depurate.purification import PurifyResult

    def full(self, *_, **__):
        raise InputError("r.html: could not be written (no space left on device)")

    monkeypatch.setattr(PurifyResult, "write_report", full)
    monkeypatch.chdir(work.folder)
    arguments = ["purify", "suspect.safetensors", "--arch", "arch.py:net", "--images", "benign.npz"]
    monkeypatch.setattr(
        "sys.argv",
        ["depurate", *arguments, "--strength", "0.1", "--out", "p.safetensors", "--report", "r.html"],
    )
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert (
        "no space left on device); the purified checkpoint was written to p.safetensors"
        in capsys.readouterr().err
    )
    assert load_file(work.folder / "p.safetensors")
