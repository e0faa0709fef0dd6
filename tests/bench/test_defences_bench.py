"""The bench of defences: specs, splits, records, resuming, and a leaderboard that hides no loss."""

import gzip
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch

from depurate.bench.defences import present
from depurate.bench.defences.images import BENIGN, MEASURED, Pixels, read_pixels, save_split
from depurate.bench.defences.leaderboard import render_markdown, render_page, write_leaderboard
from depurate.bench.defences.present import Present
from depurate.bench.defences.record import Job, Rates, Record, read_bench_record
from depurate.bench.defences.rivals.training import Schedule
from depurate.bench.defences.run import Plan, jobs_of, read_records, run
from depurate.bench.defences.spec import DEFENCES, parse_defence, split_specs
from depurate.bench.defences.standings import duels, standings
from depurate.bench.defences.worker import rates, run_job
from depurate.cli.bench_defences import plan_of
from depurate.contamination import BadNets
from depurate.errors import InputError
from depurate.zoo import ZooEntry, ZooRecord, entry_digest, load_entry, network, save_entry


def record(defence="clp", model="mnist-lenet-badnets", after=(0.97, 0.02), **changed):
    job = Job(model, changed.pop("contamination", None), defence, changed.pop("labels", 0), 0, 0, "0" * 64)
    filled = Record(
        job=job,
        dataset="mnist",
        network="lenet",
        attack="badnets:target=0",
        config={},
        anchor=False,
        intact=Rates(0.98, 1.0),
        before=Rates(0.98, 1.0),
        after=Rates(*after),
        seconds=2.0,
        cpu_seconds=1.5,
        start_bytes=10**8,
        peak_bytes=2 * 10**8,
        note="",
        versions={"depurate": "0"},
        threads=1,
    )
    return replace(filled, **changed)


def clean_record(defence, after, contamination=None):
    rates = Rates(0.98, None)
    return record(
        defence,
        "mnist-lenet-clean",
        (after, None),
        attack=None,
        intact=rates,
        before=rates,
        contamination=contamination,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder in torchvision's layout whose images all differ."""
    folder = tmp_path_factory.mktemp("data")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    count = MEASURED + BENIGN + 100
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(count) % 256, np.arange(count) // 256
    labels = (np.arange(count) % 10).astype(np.uint8)
    for split in ("train", "t10k"):
        for kind, header, values in (
            ("images-idx3", struct.pack(">IIII", 2051, count, 28, 28), images),
            ("labels-idx1", struct.pack(">II", 2049, count), labels),
        ):
            name = raw / f"{split}-{kind}-ubyte"
            name.write_bytes(header + values.tobytes())
            name.with_suffix(".gz").write_bytes(gzip.compress(b""))
    return folder


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Two untrained networks as a zoo: one said to be backdoored, one clean."""
    folder = tmp_path_factory.mktemp("zoo")
    kind = network("lenet")
    for name, attack in (("mnist-lenet-badnets", BadNets(target=0)), ("mnist-lenet-clean", None)):
        noted = ZooRecord(
            name,
            "mnist",
            "lenet",
            None if attack is None else "badnets:target=0",
            "initialisation",
            0.0,
            0,
            0,
            0.1,
            None if attack is None else 0.1,
            0.0,
            {},
            kind.mean,
            kind.deviation,
        )
        save_entry(
            ZooEntry(kind.initialise(1).eval(), kind.initialise(2).eval(), attack, noted), folder / name
        )
    return folder


def test_specs_name_defences_and_change_settings():
    assert split_specs("ft,anp:iterations=200,batch=64,clp") == ("ft", "anp:iterations=200,batch=64", "clp")
    assert split_specs("bitflip:rate=1e-5,bits=exponent,stuck:rate=0.1") == (
        "bitflip:rate=1e-5,bits=exponent",
        "stuck:rate=0.1",
    )
    assert parse_defence("anp:iterations=200,budget=0.3").iterations == 200
    assert parse_defence("ft:epochs=7").schedule == Schedule(7, 0.01, 256)
    assert all(parse_defence(name).needs <= {"labels", "images", "anchor"} for name in DEFENCES)
    with pytest.raises(InputError, match="nosuch: no such defence"):
        parse_defence("nosuch")
    with pytest.raises(InputError, match="no setting 'speed'"):
        parse_defence("ft:speed=1")
    with pytest.raises(InputError, match="'many' is not a int"):
        parse_defence("anp:iterations=many")


def test_no_image_is_both_measured_and_given_away(data):
    split = read_pixels("mnist", data).split(0)
    assert (len(split.measured), len(split.benign)) == (MEASURED, BENIGN)
    codes = [
        set((part[:, 0, 0, 0] * 255 + part[:, 0, 0, 1] * 255 * 256).round().long().tolist())
        for part in (split.measured, split.benign)
    ]
    assert [len(part) for part in codes] == [MEASURED, BENIGN]
    assert not codes[0] & codes[1]
    assert torch.equal(split.benign, read_pixels("mnist", data).split(0).benign)
    assert not torch.equal(split.benign, read_pixels("mnist", data).split(1).benign)
    with pytest.raises(InputError, match="no such dataset"):
        read_pixels("imagenet", data)


def test_attack_success_counts_no_image_of_the_wanted_class(data, zoo):
    entry, split = load_entry(zoo / "mnist-lenet-badnets"), read_pixels("mnist", data).split(0)
    always = ZooEntry(_Always(0), entry.anchor, entry.attack, entry.record)
    found = rates(always.model, always, split)
    assert found.success == 1.0
    assert found.accuracy == pytest.approx(float((split.measured_labels == 0).double().mean()))
    assert rates(_Always(1), entry, split).success == 0.0


class _Always(torch.nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer, self.unused = answer, torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        return torch.nn.functional.one_hot(torch.full((len(images),), self.answer), 10).float()


def test_effectiveness_is_the_published_formula():
    assert record(after=(0.97, 0.02)).effectiveness == pytest.approx((0.98 - 0.01 + 1) / 2)
    assert record(after=(0.99, 1.0)).effectiveness == 0.5
    assert clean_record("clp", 0.9).effectiveness is None


def test_records_survive_a_round_trip_and_others_are_refused(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(record().to_json())
    assert read_bench_record(path) == record()
    assert json.loads(path.read_text())["effectiveness"] == record().effectiveness
    path.write_text("{}")
    with pytest.raises(InputError, match="not a record of this bench"):
        read_bench_record(path)


def there(zoo):
    """What is there, of networks that need no images."""
    names = ("mnist-lenet-badnets", "mnist-lenet-clean")
    return Present({name: entry_digest(load_entry(zoo / name)) for name in names}, {"mnist": "0" * 64})


def test_jobs_cross_everything_that_makes_sense(zoo, tmp_path):
    plan = Plan(
        zoo,
        tmp_path,
        tmp_path,
        defences=("ft", "clp", "depurate"),
        labels=(500, 2500),
        contaminations=("stuck:rate=0.1",),
    )
    jobs = jobs_of(plan, there(zoo))
    # Two networks, the clean one also under noise; ft with either number of labels, the others once.
    assert len(jobs) == 3 * 4
    assert len({job.file for job in jobs}) == len(jobs)
    assert {job.labels for job in jobs if job.defence == "ft"} == {500, 2500}
    assert {job.images for job in jobs if job.defence == "depurate"} == {500}
    assert all(job.model == "mnist-lenet-clean" for job in jobs if job.contamination)
    with pytest.raises(InputError, match="no network 'nosuch'"):
        jobs_of(replace(plan, models=("nosuch",)), there(zoo))


def test_a_zoo_that_is_not_there_is_named_and_leaves_no_folder(tmp_path):
    for place, said in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "holds no networks of a zoo")):
        with pytest.raises(InputError, match=f"{place}: {said}; depurate zoo all"):
            run(Plan(place, tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def few(tmp_path, monkeypatch):
    """A run's folder; the images it reads are few."""
    generator = torch.Generator().manual_seed(0)
    pixels = Pixels(torch.rand(40, 1, 28, 28, generator=generator), torch.arange(40) % 10)
    monkeypatch.setattr(present, "read_pixels", lambda name, data: pixels)
    save_split(pixels.split(0), tmp_path / "split.safetensors")
    return tmp_path


def test_a_run_leaves_records_resumes_and_says_what_failed(zoo, few):
    plan = Plan(zoo, few, few, models=("*badnets",), defences=("reset", "depurate:method=nosuch"))
    told = []
    outcome = run(plan, told.append)
    assert (outcome.finished, outcome.reused) == (1, 0)
    assert "method" in outcome.failed[0][1]
    assert "about 0 min left" in told[-1]
    (found,) = read_records(few)
    assert found.before == found.after
    assert found.peak_bytes >= found.start_bytes > 10**7
    assert found.versions["torch"] == torch.__version__
    again = run(replace(plan, defences=("reset",)))
    assert (again.finished, again.reused, again.failed) == (1, 1, ())
    assert run(replace(plan, defences=("reset",), redo=("reset",), limit=0.01)).reused == 0
    stopped = run(replace(plan, defences=("clp",), limit=0.01))
    assert stopped.failed[0][1] == "stopped after 0 s"


def test_noise_is_put_on_the_weights_before_anything_is_measured(zoo, few):
    plan = Plan(
        zoo, few, few, models=("*clean",), defences=("reset",), contaminations=("nonfinite:rate=0.01",)
    )
    plain, noisy = (run_job(job, zoo, few / "split.safetensors") for job in jobs_of(plan, there(zoo)))
    assert plain.before == plain.intact == plain.after
    # NaN everywhere: the network answers class 0 to everything, which 4 of 40 images are.
    assert noisy.before == Rates(0.1, None)
    assert noisy.intact == plain.intact
    assert "## Damaged weights" in render_markdown((plain, noisy))


def test_standings_average_over_networks_and_duels_name_the_best_rival():
    records = (
        record("ft", after=(0.98, 0.9), labels=500),
        record("ft", "mnist-lenet-wanet", (0.96, 0.0), labels=500),
        record("clp", after=(0.98, 0.5)),
        record("depurate", after=(0.98, 0.1)),
        record("depurate", "mnist-lenet-wanet", (0.90, 0.0)),
    )
    order = standings(records)
    assert [standing.contender.title for standing in order] == ["depurate", "ft, 500 labels", "clp"]
    ft = next(standing for standing in order if standing.contender.name == "ft")
    assert (ft.networks, ft.gone, ft.worst) == (2, 1, 0.9)
    assert ft.rating == pytest.approx((0.55 + 0.99) / 2)
    first, second = duels(records)
    assert first.rival.job.defence == "clp"
    assert first.lead == pytest.approx(0.2)
    assert second.unlabelled is None
    assert second.lead == pytest.approx(-0.03)


def test_the_leaderboard_shows_losses_and_costs(tmp_path):
    records = (
        record("ft", after=(0.98, 0.0), labels=500),
        record("depurate", after=(0.95, 0.0)),
        clean_record("depurate", 0.97),
        clean_record("clp", 0.979),
        clean_record("depurate", 0.6, contamination="stuck:rate=0.1"),
    )
    page = render_markdown(records)
    assert "lost by 1.5" in page
    assert "| **mnist-lenet-clean** | **depurate** | **98.0** | **97.0** | **-1.0** | **no** |" in page
    assert "| mnist-lenet-clean | clp | 98.0 | 97.9 | -0.1 | yes |" in page
    assert "| **stuck:rate=0.1** |" in page
    write_leaderboard(records, tmp_path)
    html = (tmp_path / "leaderboard.html").read_text()
    assert html == render_page(records)
    assert "lost by 1.5" in html
    assert "<script" not in html
    assert (tmp_path / "leaderboard.svg").read_text().startswith("<?xml")


def test_a_hostile_attack_name_is_escaped():
    assert "<b>x" not in render_page((record(attack="<b>x"),))


def test_the_command_checks_its_numbers(tmp_path):
    settings = (tmp_path, tmp_path, tmp_path, "*", "ft", "")
    assert plan_of(*settings, "500,2500", 500, 0, 60.0, 1).labels == (500, 2500)
    with pytest.raises(InputError, match="expected numbers such as"):
        plan_of(*settings, "many", 500, 0, 60.0, 1)
    with pytest.raises(InputError, match="from 1 to 2500"):
        plan_of(*settings, "5000", 500, 0, 60.0, 1)
