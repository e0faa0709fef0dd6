"""One contender in one process: `python -m depurate.bench.worker PROBLEM.npz NAME COLUMNS LIMIT` prints one JSON line.

Times are CPU seconds of this process as well as wall seconds: on a machine shared with others only the former mean
something.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import Any

import numpy as np

from depurate.bench.memory import peak_memory, restart_peak
from depurate.bench.problems import Array
from depurate.bench.rivals import RIVALS

# A measurement is repeated as often, and short ones until they add up to so many CPU seconds.
_REPEATS, _ENOUGH = 3, 0.5


def measure_rival(name: str, design: Array, targets: Array) -> dict[str, Any]:
    """Solve the given columns one by one with a rival, quick ones again and again; imports are paid for before."""
    solve = RIVALS[name]
    solve(design[:20, :2], targets[:20, 0])
    wall: list[float] = []
    cpu: list[float] = []
    losses: list[float] = []
    for target in targets.T:
        started = time.process_time()
        while time.process_time() - started < _ENOUGH:
            before = time.perf_counter(), time.process_time()
            coefficients = solve(design, target)
            wall.append(time.perf_counter() - before[0])
            cpu.append(time.process_time() - before[1])
        losses.append(float(np.abs(target - design @ coefficients).sum()))
    # Where the clock ticks coarsely a quick solve may seem to take no time at all.
    return {
        "wall_per_column": min(wall),
        "cpu_per_column": min(filter(None, cpu), default=0.0),
        "losses": losses,
    }


def measure_ours(design: Array, targets: Array, clean: Array, device: str = "cpu") -> dict[str, Any]:
    """Solve all columns at once, several times, and count the operations of one run.

    On a GPU the wall clock counts in place of CPU seconds, and the memory is the GPU's.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from depurate.solver import lad

    matrix, rows = torch.as_tensor(design).to(device), torch.as_tensor(targets).to(device)
    memory, clock = (_Gpu, _gpu_seconds) if matrix.is_cuda else (_Process, time.process_time)
    few = min(40, len(design))
    lad(matrix[:few, :2], rows[:few, :2])
    before_all = memory.restart()
    started = time.perf_counter()
    lad(matrix, rows)
    peak, first = memory.peak() - before_all, time.perf_counter() - started
    basis, flat = torch.linalg.qr(matrix).Q, rows.T.contiguous()
    with FlopCounterMode(display=False) as counter:
        solution = lad(matrix, rows)
    wall: list[float] = []
    cpu: list[float] = []
    product: list[float] = []
    while len(cpu) < _REPEATS or sum(cpu) < _ENOUGH:
        before = time.perf_counter(), clock()
        solution = lad(matrix, rows)
        cpu.append(clock() - before[1])
        wall.append(time.perf_counter() - before[0])
        started = clock()
        _ = (flat @ basis) @ basis.T
        product.append(clock() - started)
    error = np.linalg.norm(solution.fitted.cpu().numpy() - clean, axis=0) / np.linalg.norm(clean, axis=0)
    count = targets.shape[1]
    return {
        "wall_per_column": min(wall) / count,
        "cpu_per_column": min(cpu) / count,
        "losses": solution.objective.tolist(),
        "gap": float(solution.gap.max()),
        "certified": int(solution.certified.sum()),
        "recovered": int((error <= 1e-9).sum()),
        "flops": int(counter.get_total_flops()),
        "flops_of_a_product": 4 * design.size * count,
        "products_by_time": min(cpu) / min(product),
        "peak_bytes": peak,
        "peak_in_targets": peak / targets.nbytes,
        "first_seconds": first,
    }


def _gpu_seconds() -> float:
    """Wall clock after everything that was asked of the GPU is done."""
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


class _Gpu:
    """Memory taken on the GPU."""

    @staticmethod
    def restart() -> int:
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    @staticmethod
    def peak() -> int:
        import torch

        return torch.cuda.max_memory_allocated()


class _Process:
    """Memory of this process."""

    restart, peak = staticmethod(restart_peak), staticmethod(peak_memory)


def main(path: str, name: str, columns: int, limit: float) -> None:
    """Measure one contender on one problem file and print the result; after `limit` CPU seconds SIGPROF ends it."""
    with np.load(path) as problem:
        design, clean, targets = problem["design"], problem["clean"], problem["targets"]
    ours, _, device = name.partition("@")
    if ours == "depurate":
        result = measure_ours(design, targets, clean, device or "cpu")
    else:
        signal.setitimer(signal.ITIMER_PROF, limit)
        result = measure_rival(name, design, targets[:, :columns])
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
