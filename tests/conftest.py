"""Settings for the whole suite; the only conftest, because doctests collect every one under the same name."""

import os

import pytest
from hypothesis import settings

# Before torch loads: test workers share the cores, and threads that spin while they wait would starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A busy machine is no bug: no single example has to be fast. The same examples every time, so that a failure is the
# change's and not the draw's; HYPOTHESIS_PROFILE=explore looks at new ones, and at more of them.
settings.register_profile("depurate", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=400)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "depurate"))


@pytest.fixture(autouse=True)
def one_thread():
    """Problems this small only lose by threads, a lot where other processes keep the cores busy."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
