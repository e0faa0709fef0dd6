"""Records are reused and shown only as long as networks and images are those that they were made of."""

import json
from dataclasses import replace

import pytest
import torch

from depurate.bench.defences import present, worker
from depurate.bench.defences import run as bench
from depurate.bench.defences.images import Pixels, save_split
from depurate.bench.defences.leaderboard import render_markdown
from depurate.bench.defences.run import Plan, read_records, run
from depurate.bench.defences.standings import by_network, duels
from depurate.checkpoints import file_sha256
from depurate.cli.bench_defences import run_defences
from depurate.contamination import BadNets
from depurate.contamination.attacks import attack_spec
from depurate.errors import InputError
from depurate.zoo import ZooEntry, ZooRecord, network, save_entry


def put(folder, name="one", *, suspect=1, anchor=2, attack=BadNets(target=0), dataset="mnist"):  # noqa: B008
    kind = network("lenet")
    spec = None if attack is None else attack_spec(attack)
    noted = ZooRecord(name, dataset, "lenet", spec, "initialisation", 0.0, 0, 0, 0.1, 0.1, 0.0, {}, 0.1, 0.3)
    entry = ZooEntry(kind.initialise(suspect).eval(), kind.initialise(anchor).eval(), attack, noted)
    save_entry(entry, folder / name)


def few(seed=0):
    images = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    return Pixels(images, torch.arange(40) % 10)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """One network, few images, and jobs that run in this process."""
    monkeypatch.setattr(present, "read_pixels", lambda name, data: few())
    monkeypatch.setattr(bench, "_work", lambda plan, task: worker.main(str(task)))
    (tmp_path / "zoo").mkdir()
    put(tmp_path / "zoo")
    return Plan(tmp_path / "zoo", tmp_path, tmp_path / "out", defences=("clp", "reset"))


def test_records_of_a_network_that_was_replaced_are_not_shown_beside_those_of_the_new_one(plan):
    assert len(run(plan).records) == 2
    put(plan.zoo, suspect=5)
    outcome = run(replace(plan, defences=("reset",)))
    assert [row.job.defence for row in outcome.records] == ["reset"]
    assert (outcome.reused, outcome.outdated) == (0, 1)
    assert "clp" not in render_markdown(outcome.records)
    # Taken out of the zoo, nothing tells what it was.
    (plan.zoo / "one").rename(plan.zoo / "two")
    assert run(replace(plan, defences=("low-rank",))).outdated == 2


def test_the_command_says_how_many_records_it_leaves_out(plan, capsys):
    run(plan)
    put(plan.zoo, suspect=5)
    assert run_defences(replace(plan, defences=("reset",))) == 0
    told = capsys.readouterr()
    assert "1 records of other networks or images are left out" in told.err
    assert "clp" not in told.out


def test_what_a_record_rests_on_decides_whether_it_is_reused(plan):
    run(plan)
    put(plan.zoo)
    assert run(plan).reused == 2
    for changed in ({"anchor": 7}, {"attack": BadNets(target=1)}, {"attack": None}):
        put(plan.zoo, **changed)
        assert run(plan).reused == 0


def test_other_pixels_are_read_and_run_on(plan, monkeypatch):
    first = run(plan).records
    monkeypatch.setattr(present, "read_pixels", lambda name, data: few(1))
    outcome = run(replace(plan, defences=("reset",)))
    assert (outcome.reused, outcome.outdated) == (0, 1)
    assert outcome.records[0].job.pixels == few(1).digest != first[0].job.pixels
    assert len(list((plan.out / "images").iterdir())) == 2


def test_a_folder_without_the_images_is_refused_whatever_was_run_before(plan, monkeypatch):
    run(plan)
    monkeypatch.undo()
    with pytest.raises(InputError, match="nowhere"):
        run(replace(plan, data=plan.out / "nowhere"))


def test_a_record_asked_for_anew_does_not_outlive_the_failure(plan, monkeypatch):
    run(plan)

    def stopped(plan, task):
        raise InputError("stopped after 1 s")

    monkeypatch.setattr(bench, "_work", stopped)
    outcome = run(replace(plan, redo=("clp",)))
    assert [reason for _, reason in outcome.failed] == ["stopped after 1 s"]
    assert [row.job.defence for row in outcome.records] == ["reset"]
    assert len(list((plan.out / "records").glob("*clp*.old"))) == 1


def test_networks_and_images_of_other_records_need_not_be_readable(plan, monkeypatch):
    put(plan.zoo, "two")
    put(plan.zoo, "three", dataset="cifar10")
    run(plan)

    def only_digits(name, data):
        if name != "mnist":
            raise InputError(f"{data}: no {name}")
        return few()

    monkeypatch.setattr(present, "read_pixels", only_digits)
    (plan.zoo / "two" / "suspect.safetensors").write_bytes(b"damaged")
    outcome = run(replace(plan, models=("one",)))
    assert (outcome.reused, outcome.outdated) == (2, 4)
    assert {row.job.model for row in outcome.records} == {"one"}
    with pytest.raises(InputError, match="suspect"):
        run(replace(plan, models=("two",)))


def made_earlier(plan, **changed):
    """Rewrite records and images as an earlier version left them."""
    for path in (plan.out / "records").glob("*.json"):
        found = json.loads(path.read_text())
        found["job"]["suspect"] = file_sha256(plan.zoo / "one" / "suspect.safetensors")
        del found["job"]["pixels"]
        path.write_text(json.dumps(found | changed))
    for path in (plan.out / "images").iterdir():
        path.rename(path.with_name("mnist-seed-0.safetensors"))


def test_records_of_earlier_versions_are_reused_where_nothing_changed(plan):
    shown = render_markdown(run(plan).records)
    made_earlier(plan)
    outcome = run(plan)
    assert (outcome.reused, outcome.outdated) == (2, 0)
    assert render_markdown(outcome.records) == shown
    assert all(not row.job.pixels for row in read_records(plan.out)), "what was written stays as it is"


def test_records_of_earlier_versions_are_not_taken_for_those_of_something_else(plan):
    run(plan)
    made_earlier(plan)
    put(plan.zoo, suspect=5)
    assert run(plan).reused == 0

    made_earlier(plan, attack="badnets:target=3")
    assert run(plan).reused == 0

    made_earlier(plan, config={"to_anchor": True})
    assert run(plan).reused == 0

    made_earlier(plan)
    save_split(few(1).split(0), plan.out / "images" / "mnist-seed-0.safetensors")
    assert run(plan).reused == 0

    made_earlier(plan)
    (plan.out / "images" / "mnist-seed-0.safetensors").unlink()
    assert run(plan).reused == 0

    made_earlier(plan)
    assert run(plan).reused == 2


def test_only_records_on_the_same_network_images_and_seed_are_compared(plan):
    (row,) = run(replace(plan, defences=("reset",))).records
    ours = replace(row, job=replace(row.job, defence="depurate"))
    others = [replace(row, job=replace(row.job, **{key: "other"})) for key in ("suspect", "pixels")]
    others.append(replace(row, job=replace(row.job, seed=3)))
    assert all(duel.rival is None for duel in duels((ours, *others)))
    assert duels((ours, row, *others))[0].rival == row
    assert [ground.title for ground in by_network((ours, *others))] == ["one", "one", "one", "one, seed 3"]
    assert "## one, seed 3\n" in render_markdown((ours, *others))
