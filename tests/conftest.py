"""Settings for the whole suite; the only conftest, because doctests collect every one under the same name."""

import os

import pytest

# Before torch loads: test workers share the cores, and threads that spin while they wait would starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(autouse=True)
def one_thread():
    """Problems this small only lose by threads, a lot where other processes keep the cores busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
