"""The bench's images: written by several at once, read no further than a defence may see, out of its peak memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from depurate.bench.defences import images, worker
from depurate.bench.defences.images import Pixels, Split, load_benign, load_split, save_split
from depurate.bench.defences.record import Job
from depurate.bench.defences.spec import DEFENCES
from depurate.bench.memory import peak_memory, restart_peak
from depurate.errors import InputError
from depurate.zoo import ZooEntry, ZooRecord, network, save_entry

forgets = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks cannot be forgotten")


def split_of(count=40):
    generator = torch.Generator().manual_seed(0)
    pixels, labels = torch.rand(count, 1, 28, 28, generator=generator), torch.arange(count) % 10
    return Split(pixels, labels, pixels.flip(0), labels.flip(0))


@pytest.fixture
def zoo(tmp_path):
    kind = network("lenet")
    noted = ZooRecord(
        "one", "mnist", "lenet", None, "initialisation", 0.0, 0, 0, 0.1, None, 0.0, {}, 0.1, 0.3
    )
    save_entry(ZooEntry(kind.initialise(1).eval(), kind.initialise(2).eval(), None, noted), tmp_path / "one")
    return tmp_path


def test_two_benches_may_write_the_same_images_at_once(tmp_path, monkeypatch):
    path, split, write = tmp_path / "images" / "a.safetensors", split_of(), images.save_file

    def slowly(tensors, partial):
        write(tensors, partial)
        monkeypatch.setattr(images, "save_file", write)
        save_split(split, path)

    monkeypatch.setattr(images, "save_file", slowly)
    save_split(split, path)
    assert torch.equal(load_split(path).measured, split.measured)
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_images_that_cannot_be_read_or_written_are_named(tmp_path):
    (tmp_path / "bad.safetensors").write_bytes(b"no images")
    for read in (load_split, lambda path: load_benign(path, 3)):
        with pytest.raises(InputError, match=r"bad\.safetensors: cannot be read"):
            read(tmp_path / "bad.safetensors")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file: the folder cannot be made"):
        save_split(split_of(), tmp_path / "file" / "a.safetensors")


def test_the_digest_tells_pixels_and_classes_apart_and_knows_no_seed():
    pixels = Pixels(torch.zeros(4, 1, 2, 2), torch.arange(4))
    assert pixels.digest == Pixels(pixels.images.clone(), pixels.labels.clone()).digest
    assert pixels.digest != Pixels(pixels.images + 1 / 255, pixels.labels).digest
    assert pixels.digest != Pixels(pixels.images, pixels.labels.flip(0)).digest


def test_a_defence_works_before_images_to_measure_on_are_loaded(zoo, monkeypatch):
    events = []

    @dataclass(frozen=True)
    class Watching:
        needs: ClassVar[frozenset[str]] = frozenset({"labels"})

        def defend(self, model, given, seed):
            events.append(("defended with", len(given.images), len(given.unlabelled)))
            return model

    def loads(path):
        events.append("loaded all")
        return load_split(path)

    monkeypatch.setitem(DEFENCES, "watching", Watching)
    monkeypatch.setattr(worker, "load_split", loads)
    split, path = split_of(), zoo / "images.safetensors"
    save_split(split, path)
    worker.run_job(Job("one", None, "watching", 7, 0, 0, ""), zoo, path)
    assert events == [("defended with", 7, 1), "loaded all"]
    benign, labels = load_benign(path, 7)
    assert torch.equal(benign, split.benign[:7]) and torch.equal(labels, split.benign_labels[:7])


@forgets
def test_memory_of_before_is_not_the_defences(zoo):
    save_split(split_of(), zoo / "images.safetensors")
    large = torch.ones(10**8)
    del large
    before = peak_memory()
    record = worker.run_job(Job("one", None, "reset", 0, 0, 0, ""), zoo, zoo / "images.safetensors")
    assert record.start_bytes <= record.peak_bytes < before - 2 * 10**8


@forgets
def test_the_peak_is_that_since_the_restart():
    held = restart_peak()
    large = torch.ones(5 * 10**7)
    del large
    assert 1.5e8 < peak_memory() - held < 3e8
    assert restart_peak() - held < 5e7
