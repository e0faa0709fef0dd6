"""The paper's network on Gaussian inputs: where exact recovery holds, and where it breaks."""

from depurate.reproduce.study import Study
from depurate.reproduce.synthetic import beyond, joint, kernels, output, pipeline, reweighted

FULL_SEEDS, QUICK_SEEDS = 20, 3


def studies(*, quick: bool, seeds: int | None) -> tuple[Study, ...]:
    """All synthetic studies.

    Args:
        quick: Small sizes, for continuous integration.
        seeds: Independent networks a cell; default 20, with `quick` 3.
    """
    count = seeds or (QUICK_SEEDS if quick else FULL_SEEDS)
    modules = (kernels, output, pipeline, joint, reweighted, beyond)
    return tuple(module.study(quick=quick, seeds=count) for module in modules)
