"""A study small enough for tests, importable by name so that other processes can run it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from depurate.reproduce.study import Record, Study, Table


@dataclass(frozen=True)
class SmallCase:
    size: int
    seed: int
    log: str = ""


def run(case: SmallCase) -> dict:
    if case.log:
        with Path(case.log).open("a") as log:
            log.write(f"{case.seed}\n")
    generator = torch.Generator().manual_seed(case.seed)
    matrix = torch.randn(case.size, case.size, generator=generator, dtype=torch.float64)
    return {"trace": float((matrix @ matrix.T).trace()), "singular": torch.linalg.svdvals(matrix).tolist()}


def draw(records):
    return ()


def tabulate(records: list[Record]) -> tuple[Table, ...]:
    return (Table("Traces", ("trace",), tuple((f"{record.results['trace']:.3f}",) for record in records)),)


def small_study(count=5, size=40, log="", revision=1) -> Study:
    cases = tuple(SmallCase(size, seed, log) for seed in range(count))
    return Study("small", "A small study", "Does it run?", revision, cases, run, draw, tabulate)
