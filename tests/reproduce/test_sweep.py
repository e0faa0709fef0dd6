"""Sweeps: records, resuming, equal results on every backend, a real local cluster."""

import json
import os
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from depurate.errors import InputError
from depurate.reproduce.cluster import connected
from depurate.reproduce.records import finished, read_record, record_path
from depurate.reproduce.sweep import sweep
from small_studies import run, small_study

HERE = Path(__file__).parent


def swept(folder, study, jobs=1, backend="loky"):
    calls = []
    sweep([study], folder, jobs=jobs, backend=backend, progress=lambda *step: calls.append(step))
    return calls


def results(folder, study):
    return [dict(record.results) for record in finished(folder, study)]


def test_every_run_leaves_a_record_and_progress_counts_to_the_end(tmp_path):
    study = small_study()
    calls = swept(tmp_path, study)
    assert calls == [("runs", done, 5) for done in range(6)]
    record = json.loads(record_path(tmp_path, study, study.cases[2]).read_text())
    assert record["config"] == {"revision": 1, "size": 40, "seed": 2, "log": ""}
    assert record["results"] == run(study.cases[2]) and record["seconds"] > 0
    assert set(record["versions"]) == {"depurate", "torch", "python"}
    assert not list(tmp_path.rglob("*.partial"))


def test_a_sweep_resumes_and_repeats_nothing_that_is_finished(tmp_path):
    log = str(tmp_path / "log.txt")
    study = small_study(count=4, log=log)
    swept(tmp_path / "out", study)
    record_path(tmp_path / "out", study, study.cases[1]).unlink()
    calls = swept(tmp_path / "out", study)
    assert calls[0] == ("runs", 3, 4)
    assert Path(log).read_text().split() == ["0", "1", "2", "3", "1"]


def test_a_raised_revision_or_another_size_is_run_again(tmp_path):
    swept(tmp_path, small_study(count=2))
    for changed in (small_study(count=2, revision=2), small_study(count=2, size=41)):
        assert read_record(tmp_path, changed, changed.cases[0]) is None


def test_a_damaged_record_is_named_not_trusted(tmp_path):
    study = small_study(count=1)
    swept(tmp_path, study)
    path = record_path(tmp_path, study, study.cases[0])
    path.write_text(path.read_text()[:40])
    with pytest.raises(InputError, match=r"\.json: not a record"):
        swept(tmp_path, study)


def test_a_run_that_is_killed_goes_on_where_it_stopped(tmp_path):
    script = (
        "import sys, os; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from small_studies import small_study\n"
        "from depurate.reproduce.sweep import sweep\n"
        "def stop(what, done, total):\n"
        "    if done == 3: os._exit(9)\n"
        "sweep([small_study()], Path(sys.argv[2]), jobs=1, progress=stop)\n"
    )
    died = subprocess.run([sys.executable, "-c", script, str(HERE), str(tmp_path)], check=False)
    assert died.returncode == 9
    assert len(finished(tmp_path, small_study())) == 3
    assert swept(tmp_path, small_study())[0] == ("runs", 3, 5)
    assert len(results(tmp_path, small_study())) == 5


def test_several_processes_give_the_same_results(tmp_path):
    study = small_study()
    swept(tmp_path / "one", study)
    swept(tmp_path / "two", study, jobs=2)
    assert results(tmp_path / "one", study) == results(tmp_path / "two", study)


@contextmanager
def dask_cluster():
    distributed = pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@contextmanager
def ray_cluster():
    for package in ("ray", "grpc"):
        pytest.importorskip(package, reason="the extra `ray` is not installed")
    from ray.cluster_utils import Cluster

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    head = {**node, "ray_client_server_port": port, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        yield f"ray://127.0.0.1:{port}"
    finally:
        cluster.shutdown()


@pytest.mark.parametrize(("kind", "start"), [("dask", dask_cluster), ("ray", ray_cluster)])
def test_a_local_cluster_of_two_workers_gives_the_same_results(tmp_path, monkeypatch, kind, start):
    # Workers are new processes: they must find the study.
    paths = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", paths)
    study = small_study()
    with start() as address:
        swept(tmp_path / "here", study)
        with connected(address, jobs=1) as workers:
            assert (workers.backend, workers.jobs) == (kind, 2)
            calls = swept(tmp_path / "cluster", study, jobs=workers.jobs, backend=workers.backend)
    assert calls[-1] == ("runs", 5, 5)
    assert results(tmp_path / "here", study) == results(tmp_path / "cluster", study)


@pytest.mark.parametrize("address", ["tcp://host:1", "dask://", "nonsense"])
def test_addresses_of_no_known_kind_are_refused(address):
    with pytest.raises(InputError, match="cluster"), connected(address, 1):
        pass


def test_a_cluster_that_does_not_answer_is_said_so():
    pytest.importorskip("distributed", reason="the extra `dask` is not installed")
    with pytest.raises(InputError, match="no Dask scheduler answers"), connected("dask://127.0.0.1:9", 1):
        pass


@pytest.mark.parametrize(("address", "package"), [("dask://h:1", "distributed"), ("ray://h:1", "grpc")])
def test_a_missing_extra_is_named(monkeypatch, address, package):
    monkeypatch.setattr(
        "depurate.reproduce.cluster.find_spec", lambda name: None if name == package else name
    )
    wanted = rf"needs {package}: pip install 'depurate\[{address.partition(':')[0]}\]'"
    with pytest.raises(InputError, match=wanted), connected(address, 1):
        pass
