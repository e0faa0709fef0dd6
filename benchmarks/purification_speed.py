"""How long a purification takes and how much memory: ResNet-18 at 224 pixels and ResNet-14 at 32, stage by stage.

    python benchmarks/purification_speed.py [--data DATA] [--models MODELS] [--network resnet18,resnet14]
        [--method auto,soft] [--images 500] [--classes 10] [--out table.json]

DATA holds cifar10/test.zip (class folders); without it scikit-learn's digits are enlarged. ResNet-18 is torchvision's
with random weights and BatchNorm statistics from these images; ResNet-14 is the backdoored checkpoint in MODELS, or
random likewise. Every pair of network and method runs in a process of its own, so that its peak of resident memory is
its own (building the network is in it). Stages are those that the progress callback names; a stage's peak is the
highest so far.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import interpolate

from depurate import purify
from depurate.checkpoints import load_state, read_checkpoint, read_labelled
from depurate.zoo.architectures import resnet14

SIDES = {"resnet18": 224, "resnet14": 32}
# A method, and the strength it is run with.
METHODS = {"soft": 0.1, "auto": None}


@dataclass(frozen=True)
class Stage:
    """What one stage took: seconds, and the highest resident memory up to its end, in MiB."""

    name: str
    wall: float
    cpu: float
    peak: float


@dataclass
class Clock:
    """A progress callback that books time on the stage whose step just ended."""

    stages: dict[str, Stage]
    wall: float
    cpu: float

    @classmethod
    def start(cls) -> Clock:
        return cls({}, time.perf_counter(), time.process_time())

    def __call__(self, what: str, done: int, total: int) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        old = self.stages.get(what, Stage(what, 0.0, 0.0, 0.0))
        self.stages[what] = Stage(what, old.wall + wall - self.wall, old.cpu + cpu - self.cpu, peak())
        self.wall, self.cpu = wall, cpu


def peak() -> float:
    """Highest resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def pictures(data: Path | None, count: int, side: int) -> Tensor:
    """Colour pictures of zero mean and unit deviation, enlarged to a side."""
    if data is None:
        from sklearn.datasets import load_digits

        small = torch.from_numpy(load_digits().images).float()[:, None].expand(-1, 3, -1, -1)
    else:
        small, _ = read_labelled(data / "cifar10" / "test.zip")
    chosen = torch.randperm(len(small), generator=torch.Generator().manual_seed(0))[:count]
    images = interpolate(small[chosen], size=(side, side), mode="bilinear", align_corners=False)
    return (images - images.mean()) / images.std()


def network(name: str, classes: int, models: Path | None, images: Tensor) -> nn.Module:
    """The network by name, with statistics that fit these images."""
    torch.manual_seed(0)
    if name == "resnet14" and models is not None:
        state = read_checkpoint(models / "resnet14-cifar10" / "badnets.safetensors")
        return load_state(resnet14(), state, source="badnets").eval()
    if name == "resnet14":
        net = resnet14(classes=classes)
    else:
        net = torchvision.models.resnet18(weights=None, num_classes=classes)
    with torch.no_grad():
        for batch in images[:32].split(8) * 3:
            net.train()(batch)
    return net.eval()


def measure(name: str, method: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Purify once in this process and account for it."""
    images = pictures(arguments.data, arguments.images, SIDES[name])
    net = network(name, arguments.classes, arguments.models, images)
    before, clock = peak(), Clock.start()
    wall, cpu = clock.wall, clock.cpu
    result = purify(net, images, method=method, strength=METHODS[method], progress=clock)
    clock("account", 1, 1)
    whole = Stage("in all", clock.wall - wall, clock.cpu - cpu, peak())
    return {
        "network": f"{name}@{SIDES[name]}",
        "method": method,
        "images": len(images),
        "threads": torch.get_num_threads(),
        "before": before,
        "warnings": list(result.record.warnings),
        "stages": [asdict(stage) for stage in (*clock.stages.values(), whole)],
    }


def lines(found: dict[str, object]) -> list[str]:
    """Lines of the Markdown table."""
    title = f"{found['network']}, {found['method']}, {found['images']} images, {found['threads']} threads"
    stages = [Stage(**stage) for stage in found["stages"]]  # type: ignore[attr-defined]
    return [f"| {title} | {s.name} | {s.wall:.1f} | {s.cpu:.1f} | {s.peak:.0f} |" for s in stages]


def main() -> None:
    """Run each pair of network and method in a process of its own and print the table as it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--models", type=Path)
    parser.add_argument("--network", default="resnet18,resnet14")
    parser.add_argument("--method", default="soft,auto")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--out", type=Path, help="also write everything as JSON")
    parser.add_argument("--here", action="store_true", help="one pair, in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.here:
        print(json.dumps(measure(arguments.network, arguments.method, arguments)))
        return
    print("| run | stage | wall s | CPU s | peak MiB |", "|---|---|---|---|---|", sep="\n", flush=True)
    everything = []
    for name in arguments.network.split(","):
        for method in arguments.method.split(","):
            command = [sys.executable, *sys.argv, "--here", "--network", name, "--method", method]
            answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            everything.append(json.loads(answer))
            print(*lines(everything[-1]), sep="\n", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(everything, indent=2))


if __name__ == "__main__":
    sys.exit(main())
