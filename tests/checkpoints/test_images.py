"""Benign images from folders, zip files and arrays."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from depurate.checkpoints import parse_normalize, pictures, read_images, read_labelled
from depurate.errors import InputError


def png(value: int = 100, size: tuple[int, int] = (8, 6), mode: str = "RGB", suffix: str = "png") -> bytes:
    file = io.BytesIO()
    colour = (
        value
        if mode in ("L", "1", "I;16", "I", "F", "P")
        else (value,) * len(Image.new(mode, (1, 1)).getbands())
    )
    Image.new(mode, size, colour).save(file, "jpeg" if suffix == "jpg" else suffix)
    return file.getvalue()


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def zip_of(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


CLASSES = {
    f"{kind}/{i:02d}.png": png(10 * k + i) for k, kind in enumerate(("ant", "bee", "cat")) for i in range(5)
}


@pytest.mark.parametrize("pack", ["folder", "zip"])
def test_class_folders_in_sorted_order(tmp_path: Path, pack: str) -> None:
    spec = folder_of(tmp_path / "set", CLASSES) if pack == "folder" else zip_of(tmp_path / "set.zip", CLASSES)
    found = read_images(spec)
    values = [10 * k + i for k in range(3) for i in range(5)]
    assert found.tensor.shape == (15, 3, 6, 8)
    assert found.tensor.dtype == torch.float32
    assert torch.equal(
        (found.tensor[:, 0, 0, 0] * 255).round().int(), torch.tensor(values, dtype=torch.int32)
    )
    assert found.skipped == ()
    assert found.source == f"{spec}: 15 of 15 images"
    images, labels = read_labelled(spec, limit=9, seed=3)
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long() // 10, labels)


def test_a_folder_and_its_zip_read_alike_also_below_a_common_folder(tmp_path: Path) -> None:
    deep = {f"data/train/{name}": data for name, data in CLASSES.items()}
    one = read_labelled(folder_of(tmp_path / "set", deep), limit=7)
    two = read_labelled(zip_of(tmp_path / "set.zip", {**deep, "__MACOSX/data/x.png": b""}), limit=7)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("files", [{"a.png": png()}, {"a/1.png": png(), "2.png": png()}, {"a/1.png": png()}])
def test_without_class_folders_there_are_no_labels(tmp_path: Path, files: dict[str, bytes]) -> None:
    with pytest.raises(InputError, match="has no classes"):
        read_labelled(folder_of(tmp_path, files))


def test_no_more_than_the_limit_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, calls, decode = folder_of(tmp_path, CLASSES), [], pictures.decode_picture
    monkeypatch.setattr(
        pictures, "decode_picture", lambda data, name: (calls.append(name), decode(data, name=name))[1]
    )
    first, again, other = (read_images(spec, limit=4, seed=seed) for seed in (0, 0, 1))
    assert len(calls) == 12
    assert torch.equal(first.tensor, again.tensor)
    assert not torch.equal(first.tensor, other.tensor)
    assert first.source.endswith("4 of 15 images, chosen with seed 0")
    assert torch.equal(read_images(spec, limit=15, seed=1).tensor, read_images(spec).tensor)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp", "tiff"])
def test_formats_agree(tmp_path: Path, suffix: str) -> None:
    spec = folder_of(tmp_path, {f"a.{suffix.upper()}": png(120, suffix=suffix)})
    torch.testing.assert_close(
        read_images(spec).tensor, torch.full((1, 3, 6, 8), 120 / 255), atol=2 / 255, rtol=0
    )


@pytest.mark.parametrize(
    ("mode", "suffix", "channels", "value"),
    [
        ("L", "png", 1, 100 / 255),
        ("RGB", "png", 3, 100 / 255),
        ("RGBA", "png", 3, 100 / 255),
        ("LA", "png", 1, 100 / 255),
        ("1", "png", 1, 1.0),
        ("I;16", "png", 1, 100 / 65535),
        ("P", "png", 3, None),
        ("CMYK", "tiff", 3, None),
    ],
)
def test_modes(tmp_path: Path, mode: str, suffix: str, channels: int, value: float | None) -> None:
    tensor = read_images(folder_of(tmp_path, {f"a.{suffix}": png(100, mode=mode, suffix=suffix)})).tensor
    assert tensor.shape == (1, channels, 6, 8)
    assert 0 <= tensor.min() <= tensor.max() <= 1
    if value is not None:
        torch.testing.assert_close(tensor, torch.full_like(tensor, value))


def test_grey_among_colour_and_asked_channels(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, {"a.png": png(50, mode="L"), "b.png": png(60)})
    assert read_images(spec).tensor.shape[1] == 3
    grey = read_images(spec, channels=1).tensor
    assert grey.shape[1] == 1
    torch.testing.assert_close(grey[:, 0, 0, 0], torch.tensor([50.0, 60.0]) / 255)


def test_images_of_different_size_need_a_size(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, {"a.png": png(size=(8, 6)), "b.png": png(size=(20, 30))})
    with pytest.raises(InputError, match=r"differ in size \(a.png is 6x8, b.png is 30x20\); give the size"):
        read_images(spec)
    assert read_images(spec, size=12).tensor.shape == (2, 3, 12, 12)
    assert read_images(spec, size=(5, 7)).tensor.shape == (2, 3, 5, 7)


def test_resizing_keeps_the_aspect_and_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((1, 4, 12), np.float32)
    wide[:, :, 4:8] = 1
    np.save(tmp_path / "a.npy", wide)
    assert torch.equal(read_images(tmp_path / "a.npy", size=8).tensor, torch.ones(1, 1, 8, 8))


def test_unreadable_files_are_skipped_and_listed(tmp_path: Path) -> None:
    files = {
        "a.png": png(),
        "b.png": b"not a picture",
        "c.png": png()[:-30],
        "d.png": b"",
        "e.txt": b"no picture",
    }
    for pack in (folder_of(tmp_path / "set", files), zip_of(tmp_path / "set.zip", files)):
        found = read_images(pack)
        assert len(found.tensor) == 1
        assert [reason.partition(":")[0] for reason in found.skipped] == ["b.png", "c.png", "d.png"]
        assert "not one of PNG, JPEG" in found.skipped[0]


def test_hidden_files_pipes_and_looping_links_are_left_alone(tmp_path: Path) -> None:
    spec = folder_of(tmp_path, {"a.png": png(), "._a.png": b"", ".hidden/b.png": png()})
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    found = read_images(spec)
    assert len(found.tensor) == 1
    assert found.skipped == ("pipe.png: not a regular file",)


def bomb() -> bytes:
    """A PNG that claims 60,000 by 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


def test_decompression_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a.png: refused as a decompression bomb"):
        read_images(folder_of(tmp_path / "one", {"a.png": bomb()}))
    monkeypatch.setattr(pictures, "_MAX_FILE_BYTES", 1000)
    with pytest.raises(InputError, match=r"a.png unpacks to 5000 bytes; refused"):
        read_images(zip_of(tmp_path / "two.zip", {"a.png": bytes(5000)}))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no images"),
        ({"a.txt": b"x"}, "holds no images"),
        ({"a.png": b"x"}, "none of 1 images can be read"),
    ],
)
def test_folders_without_images(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for spec in (folder_of(tmp_path, files), zip_of(tmp_path / "set.zip", files)):
        with pytest.raises(InputError, match=message):
            read_images(spec)
    (tmp_path / "set.zip").unlink()


STORED = torch.randint(0, 256, (6, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
EXPECTED = STORED.float() / 255


@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@pytest.mark.parametrize("kind", ["npy", "npz", "npz alone", "safetensors"])
def test_arrays(tmp_path: Path, layout: str, kind: str) -> None:
    stored = STORED if layout == "nchw" else STORED.permute(0, 2, 3, 1).contiguous()
    path = tmp_path / f"a.{kind.partition(' ')[0]}"
    if kind == "npy":
        np.save(path, stored.numpy())
    elif kind == "npz":
        np.savez_compressed(path, images=stored.numpy(), labels=np.arange(6))
    elif kind == "npz alone":
        np.savez(path, whatever=stored.numpy())
    else:
        save_file({"x": stored, "y": torch.arange(6)}, path)
    assert torch.equal(read_images(path).tensor, EXPECTED)
    some = read_images(path, limit=4)
    assert len(some.tensor) == 4
    assert all(any(torch.equal(image, other) for other in EXPECTED) for image in some.tensor)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_float_arrays_are_kept_as_they_are(tmp_path: Path, dtype: str) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 1, 3, 3), -1.5, dtype))
    assert torch.equal(read_images(tmp_path / "a.npy").tensor, torch.full((2, 1, 3, 3), -1.5))


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((2, 9, 9), None, (2, 1, 9, 9)),
        ((2, 9, 9), 3, (2, 3, 9, 9)),
        ((2, 1, 9, 9), None, (2, 1, 9, 9)),
        ((2, 9, 9, 1), None, (2, 1, 9, 9)),
        ((2, 4, 9, 9), 3, (2, 3, 9, 9)),
        ((2, 3, 9, 9), 1, (2, 1, 9, 9)),
        ((2, 3, 3, 3), None, (2, 3, 3, 3)),
        ((2, 3, 4, 4), None, (2, 3, 4, 4)),
        ((2, 3, 3, 1), None, (2, 1, 3, 3)),
        ((2, 12, 9, 9), 12, (2, 12, 9, 9)),
        ((2, 9, 9, 12), 12, (2, 12, 9, 9)),
    ],
)
def test_layouts(
    tmp_path: Path, shape: tuple[int, ...], channels: int | None, expected: tuple[int, ...]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    assert read_images(tmp_path / "a.npy", channels=channels).tensor.shape == expected


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 5), np.uint8), r"shape \(2, 5\); wanted"),
        (np.zeros((32, 32, 3), np.uint8), r"shape \(32, 32, 3\); wanted"),
        (np.float32(3), "a single number"),
        (np.zeros((0, 1, 4, 4), np.uint8), "holds no images"),
        (np.zeros((2, 7, 9, 8), np.uint8), "say how many"),
        (np.zeros((2, 4, 4), np.int64), "pixels are int64"),
        (np.zeros((2, 4, 4), bool), "pixels are bool"),
        (np.zeros((2, 4, 4), complex), "pixels are complex128"),
        (np.array([[["a"]]]), "pixels are <U1"),
        (np.array([[[None]]]), "pickle|Python objects"),
        (np.full((3, 5, 5), np.nan, np.float32), "3 of 3 images hold NaN or Inf"),
        (np.full((3, 5, 5), 1e300), "hold NaN or Inf"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", images=array)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(InputError, match=message):
            read_images(tmp_path / name)


def test_arrays_that_cannot_be_told_apart(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=np.zeros((2, 4, 4)), two=np.zeros((2, 4, 4)))
    np.savez(tmp_path / "b.npz")
    save_file({"one": torch.zeros(2, 4, 4), "two": torch.zeros(1)}, tmp_path / "c.safetensors")
    for name, message in (
        ("a.npz", "holds one, two; name the images one of"),
        ("b.npz", "b.npz"),
        ("c.safetensors", "one, two"),
    ):
        with pytest.raises(InputError, match=message):
            read_images(tmp_path / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit must be at least 1, got 0"),
        ({"size": 0}, "size must be at least 1"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"channels": 2}, "have 3 channels, which cannot be turned into 2"),
        ({"normalize": "0.5"}, "normalize"),
        ({"normalize": "0.5,0.5/0.1,0.1"}, "2 means, but the images have 3 channel"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_images(folder_of(tmp_path, {"a.png": png()}), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spec", ["nowhere", "nowhere.npy", "nowhere.zip", "", "a\0b", "a\0b.npy", "x" * 5000, "x" * 5000 + ".npy"]
)
def test_missing_sources(tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        read_images(spec)


def test_an_empty_name_is_not_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(png())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="the name given is empty"):
        read_images("")
    assert len(read_images(".").tensor) == 1


def test_a_folder_of_links_to_folders_says_that_they_are_not_followed(tmp_path: Path) -> None:
    spec = folder_of(tmp_path / "real", {"cats/a.png": png()})
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/cats").symlink_to(Path(spec) / "cats")
    with pytest.raises(
        InputError, match=r"linked: holds no images .*; links to folders, such as .*cats, are not"
    ):
        read_images(tmp_path / "linked")


def test_a_single_picture_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with pytest.raises(InputError, match="not a folder or zip of images"):
        read_images(tmp_path / "a.png")


def test_array_files_have_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(InputError, match="array files hold no classes"):
        read_labelled(tmp_path / "a.npy")


def test_memory_is_guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from depurate.checkpoints import images

    monkeypatch.setattr(images, "_MAX_BYTES", 1000)
    np.save(tmp_path / "a.npy", np.zeros((9, 10, 10), np.uint8))
    for spec in (folder_of(tmp_path / "set", CLASSES), tmp_path / "a.npy"):
        with pytest.raises(InputError, match=r"take fewer \(limit\)"):
            read_images(spec)
        assert len(read_images(spec, limit=1).tensor) == 1


@pytest.mark.parametrize(
    ("text", "mean", "std"),
    [
        ("0.5,0.25", (0.5,), (0.25,)),
        ("0.5/0.25", (0.5,), (0.25,)),
        (" 0.1307 , 0.3081 ", (0.1307,), (0.3081,)),
        ("0.485,0.456,0.406/0.229,0.224,0.225", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("0.1,0.2,0.3/0.5", (0.1, 0.2, 0.3), (0.5,)),
    ],
)
def test_normalisation(tmp_path: Path, text: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    parsed = parse_normalize(text)
    assert (parsed.mean, parsed.std) == (mean, std)
    np.save(tmp_path / "a.npy", STORED.numpy())
    expected = (EXPECTED - torch.tensor(mean).view(1, -1, 1, 1)) / torch.tensor(std).view(1, -1, 1, 1)
    torch.testing.assert_close(read_images(tmp_path / "a.npy", normalize=text).tensor, expected)


@pytest.mark.parametrize(
    "text", ["", "0.5", "a,b", "1,2,3", "0.5,0", "0.5,-1", "nan,1", "0,inf", "1/2/3", "1,/2", "/"]
)
def test_bad_normalisation(text: str) -> None:
    with pytest.raises(InputError, match="normalize"):
        parse_normalize(text)


def npz_bytes() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, images=STORED.numpy())
    return file.getvalue()


def npy_bytes() -> bytes:
    file = io.BytesIO()
    np.save(file, STORED.numpy())
    return file.getvalue()


def zip_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in list(CLASSES.items())[:3]:
            archive.writestr(name, data)
    return file.getvalue()


SOURCES = [
    ("a.npz", npz_bytes()),
    ("a.npy", npy_bytes()),
    ("a.zip", zip_bytes()),
    ("set/a.png", png()),
    ("set/a.jpg", png(suffix="jpg")),
]


@settings(max_examples=300, deadline=5000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), source=st.sampled_from(SOURCES))
def test_damaged_sources_read_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, source: tuple[str, bytes]
) -> None:
    name, valid = source
    damaged = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 6), label="flips")):
        damaged[data.draw(st.integers(0, len(damaged) - 1), label="place")] ^= data.draw(
            st.integers(1, 255), label="bits"
        )
    end = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))), label="end")
    folder = folder_of(tmp_path_factory.mktemp("damaged"), {name: bytes(damaged[:end])})
    spec = (folder / name).parent if name.startswith("set/") else folder / name
    try:
        tensor = read_images(spec).tensor
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert tensor.isfinite().all()


def test_linked_class_folders_are_named_and_gifs_read(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pictures" / "one").mkdir(parents=True)
    Image.new("L", (4, 4), 255).save(tmp_path / "pictures" / "one" / "a.gif")
    (tmp_path / "pictures" / "two").symlink_to(tmp_path / "elsewhere")
    found = read_images(tmp_path / "pictures")
    assert found.tensor.shape[0] == 1 and float(found.tensor.min()) == 1
    assert found.linked == (str(tmp_path / "pictures" / "two"),)
