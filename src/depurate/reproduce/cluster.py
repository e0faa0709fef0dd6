"""Clusters that a sweep can run on: Dask and Ray, as backends of joblib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from depurate.errors import InputError

# Ray's client for ray:// addresses speaks gRPC, which Ray alone does not install.
_NEEDS = {"dask": ("distributed",), "ray": ("ray", "grpc")}


@dataclass(frozen=True)
class Workers:
    """Who runs the cases: a backend of joblib and how many runs it takes at a time."""

    backend: str
    jobs: int


@contextmanager
def connected(address: str | None, jobs: int) -> Iterator[Workers]:
    """Connect to a cluster for the time of a sweep, or stay on this machine.

    Args:
        address: `dask://HOST:PORT`, `ray://HOST:PORT`, or None for processes of this machine.
        jobs: Runs at a time on this machine.

    Yields:
        The workers.

    Raises:
        InputError: The address is of no known kind, its extra is not installed, or nobody answers.

    >>> with connected(None, 2) as workers:
    ...     workers
    Workers(backend='loky', jobs=2)
    """
    if address is None:
        yield Workers("loky", jobs)
        return
    kind, _, place = address.partition("://")
    if kind not in _NEEDS or not place:
        raise InputError(f"cluster: {address!r}; expected dask://HOST:PORT or ray://HOST:PORT")
    for package in _NEEDS[kind]:
        if find_spec(package) is None:
            raise InputError(f"cluster: {address} needs {package}: pip install 'depurate[{kind}]'")
    with _dask(place) if kind == "dask" else _ray(address) as workers:
        yield workers


@contextmanager
def _dask(place: str) -> Iterator[Workers]:
    from distributed import Client

    try:
        client: Any = Client(f"tcp://{place}", timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"cluster: no Dask scheduler answers at {place} ({error})") from error
    try:
        yield Workers("dask", max(1, sum(client.nthreads().values())))
    finally:
        client.close()


@contextmanager
def _ray(address: str) -> Iterator[Workers]:
    import ray
    from ray.util.joblib import register_ray

    try:
        ray.init(address=address)
    except (ConnectionError, TimeoutError) as error:
        raise InputError(f"cluster: no Ray head answers at {address} ({error})") from error
    try:
        register_ray()
        yield Workers("ray", max(1, int(ray.cluster_resources().get("CPU", 1))))
    finally:
        ray.shutdown()
