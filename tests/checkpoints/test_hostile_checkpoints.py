"""Every bad checkpoint ends in one line that names the file, and nothing in it ever runs."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from depurate.checkpoints import Checkpoint, read_checkpoint
from depurate.errors import InputError


class Runs:
    """Unpickling this would create a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def torch_bytes(content: object, *, legacy: bool = False) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def header(entries: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def script_bytes() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


def zip_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def sparse_rows() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.eye(3).to_sparse_csr()


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)


GOOD = {"fc.weight": torch.ones(4, 3), "fc.bias": torch.zeros(4)}

BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "is empty"),
    "text": (lambda: b"epoch,loss\n1,0.3\n", "is a text file"),
    "binary": (lambda: bytes(range(130, 255)), "neither a safetensors nor a torch"),
    "git lfs pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "git lfs pull",
    ),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(30), "gzip"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(30), "HDF5"),
    "truncated zip": (lambda: torch_bytes(GOOD)[:-400], "truncated or corrupt"),
    "truncated legacy": (lambda: torch_bytes(GOOD, legacy=True)[:-7], "truncated or corrupt"),
    "truncated safetensors": (lambda: save(GOOD)[:-7], "safetensors"),
    "other zip": (lambda: zip_bytes({"a.txt": b"hello"}), "not one that torch.save wrote"),
    "torchscript": (script_bytes, "TorchScript, which holds code; it was not executed"),
    "torch.export": (
        lambda: zip_bytes({"x/archive_format": b"pt2", "x/models/model.json": b"{}"}),
        "not supported yet",
    ),
    "zip bomb": (
        lambda: zip_bytes({"x/data.pkl": bytes(1 << 22)}, zipfile.ZIP_DEFLATED),
        "decompression bomb",
    ),
    "module": (
        lambda: torch_bytes(nn.Linear(2, 2)),
        r"torch.nn.modules.linear.Linear\); it was not executed",
    ),
    "module legacy": (lambda: torch_bytes(nn.Linear(2, 2), legacy=True), "it was not executed"),
    "namespace": (
        lambda: torch_bytes({"state_dict": GOOD, "args": argparse.Namespace(a=1)}),
        "argparse.Namespace",
    ),
    "numpy values": (lambda: torch_bytes({"w": np.ones(3)}), "numpy"),
    "plain pickle": (lambda: pickle.dumps({"w": 1}), "Python pickle"),
    "plain pickle 2": (lambda: pickle.dumps({"w": 1}, protocol=2), "Python pickle"),
    "bare tensor": (lambda: torch_bytes(torch.ones(3)), "holds a Tensor, not a state dict"),
    "list": (lambda: torch_bytes([torch.ones(3)]), "holds a list, not a state dict"),
    "no tensors": (lambda: torch_bytes({"epoch": 3}), "holds no tensors"),
    "nothing": (lambda: torch_bytes({}), "holds no tensors"),
    "number among tensors": (lambda: torch_bytes({**GOOD, "fc.scale": 3}), "fc.scale is a int, not a tensor"),
    "key not text": (lambda: torch_bytes({**GOOD, 3: torch.ones(1)}), "a key that is a int"),
    "sparse": (lambda: torch_bytes({"fc.weight": torch.eye(3).to_sparse()}), "fc.weight is a sparse tensor"),
    "sparse csr": (lambda: torch_bytes({"fc.weight": sparse_rows()}), "fc.weight is a sparse tensor"),
    "quantised": (lambda: torch_bytes({"fc.weight": quantised()}), "fc.weight is quantised"),
    "complex": (lambda: torch_bytes({"w": torch.ones(2, dtype=torch.complex64)}), "w is complex"),
    "meta": (lambda: torch_bytes({"w": torch.empty(2, device="meta")}), "w is on the device meta"),
    "giant view": (lambda: torch_bytes({"w": torch.zeros(1).expand(10**9)}), "claims more than"),
    "escapes in key": (
        lambda: torch_bytes({"a\n\x1b[31m": 1, "w": torch.ones(1)}),
        r"a\\n\\x1b\[31m is a int",
    ),
    "huge header": (lambda: header({}, length=2**60), "header too large"),
    "header past the end": (lambda: header({}, length=5000), "safetensors"),
    "no header": (lambda: header(b"{", length=0), "safetensors"),
    "not json": (lambda: header(b"{hello}"), "safetensors"),
    "no entries": (lambda: header({}), "holds no tensors"),
    "overlap": (lambda: header({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)), "offset"),
    "gap": (lambda: header({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)), "offset"),
    "wrong size": (lambda: header({"a": entry([2], 0, 4)}, bytes(4)), "shape"),
    "data missing": (lambda: header({"a": entry([2], 0, 8)}, bytes(4)), "not fully covered|incomplete"),
    "trailing data": (lambda: header({"a": entry([1], 0, 4)}, bytes(64)), "not fully covered|incomplete"),
    "shape overflow": (lambda: header({"a": entry([2**62, 4], 0, 4)}, bytes(4)), "overflow"),
    "negative shape": (lambda: header({"a": entry([-1], 0, 4)}, bytes(4)), "safetensors"),
    "unknown dtype": (lambda: header({"a": entry([1], 0, 4, "Q9")}, bytes(4)), "Q9"),
    "packed dtype": (
        lambda: header({"a": entry([2], 0, 1, "F4")}, bytes(1)),
        "a is of the packed dtype|a is at fault|F4",
    ),
    "metadata not text": (lambda: header({"__metadata__": {"a": 3}}), "safetensors"),
}


def test_the_list_of_a_checkpoints_parts_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"metadata": {}, "weight_map": {"fc.weight": "model-00001-of-00002.safetensors"}}')
    with pytest.raises(InputError, match=r"index.json: lists the parts of a checkpoint .*; join these"):
        read_checkpoint(path)


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, message = BAD[name]
    path = tmp_path / "suspect.pt"
    path.write_bytes(make())
    with pytest.raises(InputError, match=message) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: os.mkfifo(path), "not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read|no such file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, make: Callable[[Path], None], message: str) -> None:
    path = tmp_path / "suspect.pt"
    make(path)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        read_checkpoint(name)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_code_in_a_torch_file_never_runs(tmp_path: Path, legacy: bool, wrapped: bool) -> None:
    marker, path = tmp_path / "it_ran", tmp_path / "suspect.pt"
    content = {"state_dict": GOOD, "extra": Runs(marker)} if wrapped else Runs(marker)
    path.write_bytes(torch_bytes(content, legacy=legacy))
    with pytest.raises(InputError, match=r"holds code.*not executed.*state_dict"):
        read_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_plain_pickle_never_runs(tmp_path: Path, protocol: int) -> None:
    marker, path = tmp_path / "it_ran", tmp_path / "suspect.pkl"
    path.write_bytes(pickle.dumps(Runs(marker), protocol=protocol))
    with pytest.raises(InputError):
        read_checkpoint(path)
    assert not marker.exists()
    # The pickle does what this test thinks it does.
    pickle.loads(path.read_bytes())
    assert marker.exists()


def test_old_torch_is_not_trusted_with_torch_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "suspect.pt"
    path.write_bytes(torch_bytes(GOOD))
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(InputError, match="CVE-2025-32434"):
        read_checkpoint(path)
    path.write_bytes(save(GOOD))
    assert set(read_checkpoint(path).state) == set(GOOD)


def test_many_references_to_one_large_mapping_do_not_hang(tmp_path: Path) -> None:
    large = {f"k{i}": i for i in range(20_000)}
    path = tmp_path / "suspect.pt"
    path.write_bytes(torch_bytes({f"e{i}": {"inner": large} for i in range(20_000)}))
    with pytest.raises(InputError, match="holds no tensors"):
        read_checkpoint(path)


VALID = [
    torch_bytes({"state_dict": {f"module.{k}": v for k, v in GOOD.items()}, "epoch": 3}),
    torch_bytes(GOOD, legacy=True),
    save(GOOD, metadata={"note": "fine"}),
]


def read_or_refuse(path: Path) -> Checkpoint | None:
    try:
        return read_checkpoint(path)
    except InputError as error:
        assert "\n" not in str(error)
        return None


@settings(max_examples=400, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), valid=st.sampled_from(VALID))
def test_damaged_files_read_or_are_refused(tmp_path: Path, data: st.DataObject, valid: bytes) -> None:
    damaged = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 8), label="flips")):
        place = data.draw(st.integers(0, len(damaged) - 1), label="place")
        damaged[place] ^= data.draw(st.integers(1, 255), label="bits")
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))), label="end")
    path = tmp_path / "suspect.pt"
    path.write_bytes(damaged[:end])
    found = read_or_refuse(path)
    assert found is None or all(isinstance(value, torch.Tensor) for value in found.state.values())


@settings(max_examples=200, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", bytes(8) + b"{"]),
    rest=st.binary(),
)
def test_random_bytes_are_refused(tmp_path: Path, start: bytes, rest: bytes) -> None:
    path = tmp_path / "suspect.pt"
    path.write_bytes(start + rest)
    assert read_or_refuse(path) is None
