"""The benchmark runs, records and renders, on a problem too small to measure anything."""

import json
from importlib.util import find_spec

import numpy as np
import pytest

from depurate.bench.problems import Case, make
from depurate.bench.rivals import RIVALS
from depurate.bench.solver import cases, run
from depurate.errors import InputError

PACKAGES = {"statsmodels": "statsmodels", "cvxpy-clarabel": "cvxpy", "ortools-pdlp": "ortools"}


def test_every_rival_finds_the_optimum(tmp_path):
    names = [name for name in RIVALS if name not in PACKAGES or find_spec(PACKAGES[name])]
    (result,) = run(tmp_path, problems=[Case(40, 4, 1, 0.2)], rivals=names, limit=60)
    for entry in result.entries[1:]:
        assert entry.note == ""
        assert abs(entry.excess) < (1e-3 if entry.contender == "statsmodels" else 1e-6)


def test_a_run_writes_record_table_and_figure(tmp_path):
    (result,) = run(tmp_path, problems=[Case(60, 5, 3, 0.2)], rivals=["highs-ipm"], limit=60)
    assert [entry.contender for entry in result.entries] == ["depurate", "highs-ipm"]
    assert result.entries[0].details["certified"] == 3
    assert abs(result.entries[1].excess) < 1e-7
    record = json.loads((tmp_path / "solver.json").read_text())
    assert record["comparisons"][0]["case"]["rows"] == 60
    assert "| 60×5×3, ε = 0.2, gaussian |" in (tmp_path / "solver.md").read_text()
    assert (tmp_path / "solver.svg").read_text().startswith("<?xml")


def test_a_rival_over_its_time_is_recorded_as_such(tmp_path):
    (result,) = run(tmp_path, problems=[Case(60, 5, 1, 0.2)], rivals=["highs-ipm"], limit=0.01)
    assert result.entries[1].note == "over 0 s"


def test_a_rival_expected_to_be_over_its_time_is_not_run(tmp_path):
    problems = [Case(40, 3, 1, 0.2), Case(4000, 3, 1, 0.2)]
    results = run(tmp_path, problems=problems, rivals=["highs-ipm"], limit=20)
    assert [result.entries[1].note for result in results] == ["", "not run"]


def test_memory_is_that_of_few_copies_of_the_targets(tmp_path):
    (result,) = run(tmp_path, problems=[Case(400, 20, 8192, 0.1)], rivals=[])
    assert 2.5 < result.entries[0].details["peak_in_targets"] <= 6


def test_designs_come_from_files_too(tmp_path):
    path = tmp_path / "patches.npz"
    np.savez(path, design=np.random.default_rng(0).standard_normal((30, 6)))
    last = cases(False, [path])[-1]
    assert (last.rows, last.columns) == (30, 6)
    assert make(last)[0].shape == (30, 6)
    with pytest.raises(InputError, match="law: 'pink'"):
        make(Case(5, 2, 1, 0.1, "pink"))
