"""Recovery of the paper's one-hidden-layer network under sparse noise: worst errors and certificates.

python benchmarks/paper_recovery.py [--quick] [--scheme sequential|joint] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import elu, gelu, leaky_relu, relu, tanh

from depurate.contamination import Cauchy, Constant, Gaussian, Law, Uniform
from depurate.paper import PatchNetwork, Trained, contaminate_network, recover, relative_errors, train

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "gelu": gelu,
    "tanh": tanh,
}
LAWS: dict[str, Law] = {
    "gaussian": Gaussian(),
    "uniform": Uniform(),
    "cauchy": Cauchy(),
    "constant": Constant(),
}


@dataclass(frozen=True)
class Size:
    """n inputs of m patches of k numbers, p kernels."""

    n: int = 10
    m: int = 4
    k: int = 400
    p: int = 500


@dataclass(frozen=True)
class Outcome:
    """One network recovered."""

    fraction: float
    seed: int
    kernel_error: float
    output_error: float
    kernels_certified: float
    output_certified: bool
    gap: float
    margin: float
    seconds: float


# Inputs, weights and noise are drawn from streams that share nothing.
_INPUTS, _NOISE = 1_000_000, 2_000_000


def trained_network(size: Size, seed: int, scheme: str, activation: str) -> tuple[Trained, Tensor]:
    """Gaussian inputs and targets, and the network trained on them."""
    generator = torch.Generator().manual_seed(_INPUTS + seed)
    patches = torch.randn(size.n, size.m, size.k, generator=generator, dtype=torch.float64)
    targets = torch.randn(size.n, generator=generator, dtype=torch.float64)
    network = PatchNetwork.initialise(size.p, size.k, activation=ACTIVATIONS[activation], seed=seed)
    return train(network, patches, targets, scheme=scheme), patches


def outcomes(
    size: Size, fractions: list[float], seeds: int, options: argparse.Namespace
) -> Iterator[Outcome]:
    """Recover every network at every fraction."""
    for seed in range(seeds):
        trained, patches = trained_network(size, seed, options.scheme, options.activation)
        for fraction in fractions:
            hit = contaminate_network(trained.final, fraction, LAWS[options.law], seed=_NOISE + seed)
            recovery = recover(hit, trained.initial, patches)
            errors = relative_errors(recovery, trained.final)
            solution = recovery.kernel_solution
            yield Outcome(
                fraction=fraction,
                seed=seed,
                kernel_error=float(errors.kernels.max()),
                output_error=errors.output,
                kernels_certified=float(recovery.kernels_certified.double().mean()),
                output_certified=recovery.output_certified,
                gap=float(solution.gap.max()),
                margin=float(solution.margin.max()),
                seconds=recovery.seconds,
            )


def show(found: list[Outcome]) -> None:
    """Print one line a fraction: the worst over seeds, and mean seconds."""
    print("  eps  seeds  worst kernel  worst beta  kernels certified  beta certified  seconds")
    for fraction in sorted({one.fraction for one in found}):
        rows = [one for one in found if one.fraction == fraction]
        print(
            f"{fraction:5.2f}  {len(rows):5d}"
            f"  {max(one.kernel_error for one in rows):12.1e}"
            f"  {max(one.output_error for one in rows):10.1e}"
            f"  {100 * sum(one.kernels_certified for one in rows) / len(rows):15.2f} %"
            f"  {sum(one.output_certified for one in rows):8d} of {len(rows)}"
            f"  {sum(one.seconds for one in rows) / len(rows):7.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small network, two seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.45])
    parser.add_argument("--scheme", choices=("sequential", "joint"), default="sequential")
    parser.add_argument("--activation", choices=sorted(ACTIVATIONS), default="relu")
    parser.add_argument("--law", choices=sorted(LAWS), default="gaussian")
    parser.add_argument("--out", type=Path, help="write the settings and every outcome as JSON")
    options = parser.parse_args()
    size, seeds = (Size(4, 2, 200, 250), 2) if options.quick else (Size(), options.seeds)
    found = list(outcomes(size, options.fractions, seeds, options))
    settings = {"scheme": options.scheme, "activation": options.activation, "law": repr(LAWS[options.law])}
    print(f"{size}  {settings}  torch {torch.__version__}, {torch.get_num_threads()} threads, float64")
    show(found)
    if options.out is not None:
        record = {
            "size": asdict(size),
            **settings,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "machine": platform.machine(),
            "outcomes": [asdict(one) for one in found],
        }
        options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
