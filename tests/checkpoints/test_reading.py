"""Checkpoints as they come: wrappers, prefixes and formats."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from depurate.checkpoints import file_sha256, nonfinite_entries, read_checkpoint
from depurate.errors import InputError

STATE = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.tensor([1.0, -1.0])}


def write(path: Path, content: object, *, legacy: bool = False) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def assert_same(state: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(state) == list(expected)
    for key, value in expected.items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value)


@pytest.mark.parametrize(
    ("content", "wrapper"),
    [
        (STATE, ()),
        (OrderedDict(STATE), ()),
        (
            {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {0: {"m": torch.ones(2)}}}},
            ("state_dict",),
        ),
        ({"model_state_dict": STATE, "loss": torch.tensor(0.3)}, ("model_state_dict",)),
        ({"net": STATE, "acc": 97.0}, ("net",)),
        ({"model": STATE, "model_name": "resnet"}, ("model",)),
        ({"model": STATE, "model_ema": STATE}, ("model",)),
        ({"weights": {"state_dict": STATE, "epoch": 1}}, ("weights", "state_dict")),
        ({"netC": STATE, "optimizerC": {"param_groups": []}, "best": 0.9}, ("netC",)),
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_unwraps_what_people_save(
    tmp_path: Path, content: object, wrapper: tuple[str, ...], legacy: bool
) -> None:
    found = read_checkpoint(write(tmp_path / "a.pt", content, legacy=legacy))
    assert found.wrapper == wrapper
    assert found.format == "torch"
    assert_same(found.state, STATE)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_prefixes_are_noted_and_kept(tmp_path: Path, prefix: str) -> None:
    prefixed = {prefix + key: value for key, value in STATE.items()}
    found = read_checkpoint(write(tmp_path / "a.pt", {"state_dict": prefixed}))
    assert found.prefix == prefix
    assert_same(found.state, prefixed)
    assert_same(found.weights, STATE)


def test_a_real_data_parallel_checkpoint_reads_like_its_module(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    found = read_checkpoint(write(tmp_path / "a.pt", nn.DataParallel(net).state_dict()))
    assert_same(found.weights, dict(net.state_dict()))


def test_content_decides_the_format_not_the_suffix(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "a.pt", metadata={"note": "hello"})
    write(tmp_path / "b.safetensors", STATE)
    first, second = read_checkpoint(tmp_path / "a.pt"), read_checkpoint(str(tmp_path / "b.safetensors"))
    assert (first.format, second.format) == ("safetensors", "torch")
    assert first.metadata == {"note": "hello"}
    assert second.metadata == {}
    assert first.sha256 == file_sha256(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool],
)
def test_dtypes_are_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"w": torch.tensor([0, 1, 1]).to(dtype)}
    save_file(state, tmp_path / "a.safetensors")
    for path in (tmp_path / "a.safetensors", write(tmp_path / "b.pt", state)):
        assert_same(read_checkpoint(path).state, state)


def test_tied_parameters_and_views_read_as_plain_tensors(tmp_path: Path) -> None:
    shared = nn.Parameter(torch.arange(6.0).view(2, 3))
    found = read_checkpoint(write(tmp_path / "a.pt", {"a": shared, "b": shared, "t": shared.detach().t()}))
    assert not any(value.requires_grad for value in found.state.values())
    assert torch.equal(found.state["t"], shared.detach().t())


def test_what_was_read_survives_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    found = read_checkpoint(path)
    path.write_bytes(b"")
    assert all(torch.equal(found.state[key], value) for key, value in STATE.items())


def test_what_was_left_out_beside_a_state_dict_is_named(tmp_path: Path) -> None:
    content = {"epoch": 3, "state_dict": STATE, "state_dict_ema": STATE, "optimizer": {"lr": 0.1}}
    found = read_checkpoint(write(tmp_path / "a.pt", content))
    assert (found.wrapper, found.left_out) == (("state_dict",), ("state_dict_ema",))
    assert found.entry == "state_dict (left out: state_dict_ema)"
    alone = read_checkpoint(write(tmp_path / "b.pt", {"state_dict": STATE}))
    assert (alone.left_out, alone.entry) == ((), "state_dict")


def test_a_state_dict_three_levels_deep_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="only more than 2 levels deep; save the state dict alone"):
        read_checkpoint(write(tmp_path / "a.pt", {"a": {"b": {"c": STATE}}}))


def test_several_state_dicts_are_not_guessed_among(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", {"generator": STATE, "critic": STATE})
    with pytest.raises(InputError, match=r"several state dicts \(generator, critic\)"):
        read_checkpoint(path)


def test_a_mapping_that_holds_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, object] = {}
    loop["model"] = loop
    with pytest.raises(InputError, match="holds no tensors"):
        read_checkpoint(write(tmp_path / "a.pt", loop))


def test_nonfinite_entries_are_counted_in_every_float_dtype() -> None:
    bad = torch.tensor([1.0, float("nan"), float("inf"), -float("inf")])
    state = {
        str(dtype): bad.to(dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    }
    state |= {"clean": torch.ones(2), "steps": torch.tensor(3), "f8": bad.to(torch.float8_e5m2)}
    counts = nonfinite_entries(state)
    assert counts.pop("clean") == 0
    assert "steps" not in counts
    assert set(counts.values()) == {3}
