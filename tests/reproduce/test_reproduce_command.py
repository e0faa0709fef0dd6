"""`depurate reproduce` from end to end, small: page, figures, records, resuming, bad input."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from depurate.cli.app import app
from depurate.errors import InputError
from depurate.reproduce import Settings, reproduce


def silent(what, done, total):
    pass


def test_the_command_leaves_a_page_figures_and_records_and_resumes(tmp_path):
    arguments = ["reproduce", "synthetic", "--quick", "--only", "joint", "--seeds", "1", "--jobs", "1"]
    answer = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert answer.exit_code == 0, answer.output
    page = (tmp_path / "index.html").read_text()
    assert "Error against movement" in page and "<svg" in page
    assert not re.search(r'(?:src|href)="(?!#)', page), "the page loads nothing"
    assert (tmp_path / "joint.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "joint.svg").read_text().lstrip().startswith("<?xml")
    records = sorted((tmp_path / "records" / "joint").iterdir())
    assert len(records) == 8
    times = [path.stat().st_mtime_ns for path in records]
    reproduce(Settings("synthetic", tmp_path, quick=True, seeds=1, jobs=1, only=("joint",)), silent)
    assert [path.stat().st_mtime_ns for path in records] == times
    by_scheme = {"sequential": [], "joint": []}
    for path in records:
        record = json.loads(path.read_text())
        by_scheme[record["config"]["scheme"]].append(record["results"]["output_error"])
    assert max(by_scheme["sequential"]) < 1e-12 < 1e-6 < min(by_scheme["joint"])


def test_unfinished_sweeps_can_be_drawn_without_running_more(tmp_path):
    settings = Settings("synthetic", tmp_path, quick=True, seeds=2, jobs=1, only=("joint",))
    with pytest.raises(InputError, match="no finished runs to draw"):
        reproduce(replace(settings, draw_only=True), silent)
    reproduce(replace(settings, seeds=1), silent)
    page, *_ = reproduce(replace(settings, draw_only=True), silent)
    assert "8 of 16 runs are finished" in page.read_text()


def test_quick_settings_of_every_synthetic_study_draw(tmp_path):
    for name in ("kernels", "output", "pipeline", "reweighted", "beyond"):
        settings = Settings("synthetic", tmp_path, quick=True, seeds=1, jobs=1, only=(name,))
        page, *figures = reproduce(settings, silent)
        assert page.exists() and len(figures) >= 2
    for path in (tmp_path / "records").rglob("*.json"):
        results = json.loads(path.read_text())["results"]
        runs = results.get("runs", [results])
        assert sum(one["false"] for one in runs) == 0, f"false certificates in {path.parent.name}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": "imagenet"}, "experiment: 'imagenet'; expected one of synthetic, mnist, cifar10"),
        ({"only": ("nothing",)}, "only: 'nothing'; expected of"),
        ({"experiment": "mnist", "data": Path("no/such/folder")}, "no such folder of datasets"),
        ({"cluster": "slurm://x"}, "cluster: 'slurm://x'; expected dask"),
    ],
)
def test_bad_settings_are_named(tmp_path, changes, message):
    settings = {"experiment": "synthetic", "out": tmp_path, "quick": True} | changes
    with pytest.raises(InputError, match=re.escape(message)):
        reproduce(Settings(**settings), silent)


def test_real_images_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("DEPURATE_DATA", raising=False)
    with pytest.raises(InputError, match="mnist needs real images: give --data FOLDER"):
        reproduce(Settings("mnist", tmp_path), silent)


@pytest.mark.real_data
@pytest.mark.skipif("DEPURATE_DATA" not in os.environ, reason="DEPURATE_DATA is not set")
def test_real_digits_are_recovered_with_the_training_images_only(tmp_path):
    reproduce(Settings("mnist", tmp_path, quick=True, jobs=1, only=("benign",)), silent)
    found = {}
    for path in (tmp_path / "records" / "benign").iterdir():
        record = json.loads(path.read_text())
        found[record["config"]["kind"]] = record["results"]
    assert found["training"]["certified"] == 1 and found["training"]["worst_kernel_error"] < 1e-12
    assert found["training"]["accuracy_after"] == found["training"]["accuracy_clean"]
    assert found["mnist"]["certified"] == found["fashion"]["certified"] == 0
