"""Purified checkpoints are written whole, under the suspect's keys and dtypes, and never over the suspect."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from depurate.checkpoints import (
    Checkpoint,
    check_output,
    file_sha256,
    load_state,
    read_checkpoint,
    write_checkpoint,
)
from depurate.checkpoints import storing as storing_module
from depurate.errors import InputError

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(value: Tensor) -> Tensor:
    return value.contiguous().view(BITS[value.element_size()])


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def suspect_in(folder: Path, state: dict[str, Tensor], name: str = "suspect.pt") -> Checkpoint:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / name)
    return read_checkpoint(folder / name)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_an_unchanged_network_is_written_back_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype, prefix: str
) -> None:
    state = {prefix + key: value for key, value in net().to(dtype).state_dict().items()}
    suspect = suspect_in(tmp_path, state)
    loaded = load_state(net(), suspect, source="suspect")
    write_checkpoint(tmp_path / "pure.safetensors", loaded.state_dict(), like=suspect, metadata={})
    pure = read_checkpoint(tmp_path / "pure.safetensors")
    assert pure.state.keys() == suspect.state.keys()
    for key, value in suspect.state.items():
        assert pure.state[key].dtype == value.dtype
        assert torch.equal(bits(pure.state[key]), bits(value))


@settings(max_examples=60, deadline=None)
@given(
    patterns=st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=64),
    dtype=st.sampled_from([torch.float16, torch.bfloat16]),
)
def test_every_half_pattern_survives_the_way_through_float32(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[int], dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.mktemp("half")
    value = torch.tensor(patterns, dtype=torch.int16).view(dtype)
    suspect = suspect_in(folder, {"w": value})
    write_checkpoint(folder / "pure.safetensors", {"w": value.float()}, like=suspect, metadata={})
    assert torch.equal(bits(read_checkpoint(folder / "pure.safetensors").state["w"]), bits(value))


def test_changed_entries_are_rounded_and_the_others_kept(tmp_path: Path) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.tensor([1.0, 2.0, float("nan")], dtype=torch.float16)})
    purified = torch.tensor([1.0, 2.0001, 0.5])
    write_checkpoint(tmp_path / "pure.safetensors", {"w": purified}, like=suspect, metadata={})
    assert torch.equal(read_checkpoint(tmp_path / "pure.safetensors").state["w"], purified.half())


def test_tied_transposed_and_empty_tensors_are_written(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    state = {
        "a": base,
        "b": base,
        "t": base.t(),
        "row": base[0],
        "none": torch.zeros(0, 2),
        "nil": torch.zeros(0),
    }
    suspect = suspect_in(tmp_path, state)
    write_checkpoint(tmp_path / "pure.safetensors", suspect.state, like=suspect, metadata={})
    pure = read_checkpoint(tmp_path / "pure.safetensors").state
    assert all(torch.equal(pure[key], value) for key, value in state.items())


def test_state_with_or_without_prefix_and_additions_of_the_network(tmp_path: Path) -> None:
    suspect = suspect_in(tmp_path, {"module.fc.weight": torch.ones(2, 2)})
    weight = torch.zeros(2, 2)
    for state in (
        {"fc.weight": weight, "bn.num_batches_tracked": torch.tensor(0), "tied": weight},
        {"module.fc.weight": weight},
    ):
        write_checkpoint(tmp_path / "pure.safetensors", state, like=suspect, metadata={})
        assert list(read_checkpoint(tmp_path / "pure.safetensors").state) == ["module.fc.weight"]


@pytest.mark.parametrize(("stored", "computed"), [("", "module."), ("model.", ""), ("", "model.net.")])
def test_the_network_or_its_file_may_have_something_around_it(
    tmp_path: Path, stored: str, computed: str
) -> None:
    suspect = suspect_in(
        tmp_path, {stored + "fc.weight": torch.ones(2, 2), stored + "fc.bias": torch.ones(2)}
    )
    state = {computed + "fc.weight": torch.zeros(2, 2), computed + "fc.bias": torch.zeros(2)}
    write_checkpoint(tmp_path / "pure.safetensors", state, like=suspect, metadata={})
    pure = read_checkpoint(tmp_path / "pure.safetensors").state
    assert pure.keys() == suspect.state.keys()
    assert not any(value.any() for value in pure.values())


def test_provenance_is_in_the_metadata(tmp_path: Path) -> None:
    save_file(
        {"w": torch.ones(2)},
        tmp_path / "suspect.safetensors",
        metadata={"author": "stranger", "depurate_noise": "x"},
    )
    suspect = read_checkpoint(tmp_path / "suspect.safetensors")
    write_checkpoint(tmp_path / "pure.safetensors", suspect.state, like=suspect, metadata={"method": "soft"})
    notes = read_checkpoint(tmp_path / "pure.safetensors").metadata
    assert notes["depurate_source_sha256"] == file_sha256(tmp_path / "suspect.safetensors")
    assert notes["depurate_source"] == "suspect.safetensors"
    assert "depurate_noise" not in notes
    assert (notes["author"], notes["method"], notes["format"]) == ("stranger", "soft", "pt")


def test_equal_results_are_equal_bytes_whatever_the_notes_hold(tmp_path: Path) -> None:
    notes = {f"note {i}": 'é"\\\n\t\x07\x1f\x7f 漢' * i for i in range(20)}
    suspect = suspect_in(tmp_path, {"w": torch.ones(2), "é": torch.zeros(3)})
    for name in ("one.safetensors", "other.safetensors"):
        write_checkpoint(tmp_path / name, suspect.state, like=suspect, metadata=notes)
        notes = dict(reversed(notes.items()))
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    pure = read_checkpoint(tmp_path / "one.safetensors")
    assert notes.items() <= pure.metadata.items()
    assert torch.equal(pure.state["é"], torch.zeros(3)) and torch.equal(pure.state["w"], torch.ones(2))


def same_name(folder: Path) -> Path:
    return folder / "suspect.safetensors"


def dotted(folder: Path) -> Path:
    (folder / "sub").mkdir()
    return folder / "sub" / ".." / "suspect.safetensors"


def symlink(folder: Path) -> Path:
    (folder / "link.safetensors").symlink_to(folder / "suspect.safetensors")
    return folder / "link.safetensors"


def hardlink(folder: Path) -> Path:
    os.link(folder / "suspect.safetensors", folder / "hard.safetensors")
    return folder / "hard.safetensors"


def folder_link(folder: Path) -> Path:
    (folder / "elsewhere").symlink_to(folder)
    return folder / "elsewhere" / "suspect.safetensors"


def relative(folder: Path) -> Path:
    return Path(os.path.relpath(folder / "suspect.safetensors"))


@pytest.mark.parametrize("way", [same_name, dotted, symlink, hardlink, folder_link, relative])
def test_the_suspect_is_never_overwritten(tmp_path: Path, way: object) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2)}, "suspect.safetensors")
    before = suspect.path.read_bytes()
    target = way(tmp_path)  # type: ignore[operator]
    files = names_in(tmp_path)
    with pytest.raises(InputError, match="is the input file itself"):
        write_checkpoint(target, {"w": torch.zeros(2)}, like=suspect, metadata={})
    assert suspect.path.read_bytes() == before
    assert names_in(tmp_path) == files


def test_a_suspect_read_through_a_link_is_not_overwritten_either(tmp_path: Path) -> None:
    suspect_in(tmp_path, {"w": torch.ones(2)}, "real.safetensors")
    (tmp_path / "link.pt").symlink_to(tmp_path / "real.safetensors")
    suspect = read_checkpoint(tmp_path / "link.pt")
    with pytest.raises(InputError, match="is the input file itself"):
        check_output(tmp_path / "real.safetensors", like=suspect)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("missing/pure.safetensors", "does not exist"),
        ("pure.pt", "ends in .safetensors"),
        ("taken.safetensors", "not a regular file"),
        ("suspect.pt/pure.safetensors", "does not exist"),
        ("x" * 300 + ".safetensors", "cannot be written"),
        ("a\0b.safetensors", "cannot be written"),
    ],
)
def test_unusable_outputs_are_refused(tmp_path: Path, target: str, message: str) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2)})
    (tmp_path / "taken.safetensors").mkdir()
    files = names_in(tmp_path)
    with pytest.raises(InputError, match=message):
        write_checkpoint(tmp_path / target, suspect.state, like=suspect, metadata={})
    assert names_in(tmp_path) == files


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "lacks 1 of the suspect's keys: w"),
        ({"w": torch.ones(3)}, r"w has shape \(3,\), the suspect \(2,\)"),
        ({"w": torch.ones(2), "v": torch.ones(2)}, "1 keys that the suspect lacks: v"),
        ({"w": torch.tensor([1, 2])}, "w is torch.int64, the suspect has torch.float16"),
        ({"w": torch.tensor([1.0, 1e6])}, "too large for the suspect's torch.float16"),
    ],
)
def test_states_that_do_not_match_leave_nothing_behind(
    tmp_path: Path, state: dict[str, Tensor], message: str
) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2, dtype=torch.float16)})
    with pytest.raises(InputError, match=message):
        write_checkpoint(tmp_path / "pure.safetensors", state, like=suspect, metadata={})
    assert names_in(tmp_path) == ["suspect.pt"]


def test_metadata_must_be_text(tmp_path: Path) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2)})
    with pytest.raises(InputError, match="metadata 'strength' must be text, got float"):
        write_checkpoint(tmp_path / "p.safetensors", suspect.state, like=suspect, metadata={"strength": 0.1})  # type: ignore[dict-item]


@pytest.mark.parametrize("broken", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: BaseException
) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2)})
    (tmp_path / "pure.safetensors").write_bytes(b"older result")

    def fail(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise broken

    monkeypatch.setattr(storing_module, "save_file", fail)
    with pytest.raises((InputError, KeyboardInterrupt)) as caught:
        write_checkpoint(tmp_path / "pure.safetensors", suspect.state, like=suspect, metadata={})
    if isinstance(broken, OSError):
        assert isinstance(caught.value, InputError)
        assert "No space left" in str(caught.value)
    assert (tmp_path / "pure.safetensors").read_bytes() == b"older result"
    assert names_in(tmp_path) == ["pure.safetensors", "suspect.pt"]


def test_an_older_result_is_replaced_and_links_to_it_followed(tmp_path: Path) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2)})
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "real.safetensors").write_bytes(b"older result")
    (tmp_path / "pure.safetensors").symlink_to(tmp_path / "store" / "real.safetensors")
    write_checkpoint(tmp_path / "pure.safetensors", suspect.state, like=suspect, metadata={})
    assert (tmp_path / "pure.safetensors").is_symlink()
    assert torch.equal(read_checkpoint(tmp_path / "store" / "real.safetensors").state["w"], torch.ones(2))


@pytest.mark.skipif(os.name != "posix", reason="file permissions as on POSIX")
def test_the_output_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    suspect = suspect_in(tmp_path, {"w": torch.ones(2)})
    before = os.umask(0o027)
    try:
        write_checkpoint(tmp_path / "pure.safetensors", suspect.state, like=suspect, metadata={})
    finally:
        os.umask(before)
    assert (tmp_path / "pure.safetensors").stat().st_mode & 0o777 == 0o640


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=5),
    dtype=st.sampled_from(
        [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
    ),
)
def test_any_state_round_trips(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtype: torch.dtype
) -> None:
    folder = tmp_path_factory.mktemp("any")
    state = {f"module.layer.{i}": torch.ones(shape).to(dtype) for i, shape in enumerate(shapes)}
    suspect = suspect_in(folder, state)
    write_checkpoint(folder / "pure.safetensors", suspect.weights, like=suspect, metadata={})
    pure = read_checkpoint(folder / "pure.safetensors").state
    assert pure.keys() == state.keys()
    assert all(pure[key].dtype == dtype and torch.equal(pure[key], value) for key, value in state.items())
