"""Settings for the whole suite."""

import os

# Before torch loads: test workers share the cores, and threads that spin while they wait would starve each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
