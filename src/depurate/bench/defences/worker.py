"""One defence on one network in one process: `python -m depurate.bench.defences.worker TASK.json` writes the record.

Before the defence no image is loaded that it is not given, and the peak of the memory is taken from its start to its
end: what the process held when it began, with Python and PyTorch, and what the defence took. Only then are the images
loaded that the network is measured on.
"""

from __future__ import annotations

import copy
import json
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from depurate.bench.defences.given import Defence, Given
from depurate.bench.defences.images import Split, dataset_named, load_benign, load_split
from depurate.bench.defences.record import Job, Rates, Record
from depurate.bench.defences.spec import parse_defence
from depurate.bench.memory import peak_memory, restart_peak
from depurate.contamination import parse_noise
from depurate.devices import device_named, taken_on
from depurate.errors import InputError
from depurate.text_files import write_text
from depurate.zoo import ZooEntry, accuracy, load_entry, network, success


def run_job(job: Job, zoo: Path, images: Path, device: str = "cpu") -> Record:
    """Run a defence and measure what it did.

    Args:
        job: What to run.
        zoo: Folder of the networks.
        images: What `save_split` wrote for the network's dataset.
        device: Where the defence works and the network is measured.

    Returns:
        The record.

    Raises:
        InputError: The defence needs what there is not, or cannot work with the network.
    """
    entry, defence = load_entry(zoo / job.model), parse_defence(job.defence)
    place = device_named(device)
    suspect = _contaminated(entry.model, job).to(place)
    given = _given(entry, defence, job, images).to(place)
    start = restart_peak()
    wall, cpu = time.perf_counter(), time.process_time()
    repaired = defence.defend(suspect, given, job.seed)
    device_name, device_bytes = taken_on(place)  # what the defence started there is not over before
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_memory()
    split = load_split(images)
    intact = rates(entry.model.to(place), entry, split)
    return Record(
        job=job,
        dataset=entry.record.dataset,
        network=entry.record.network,
        attack=entry.record.attack,
        config=asdict(defence),  # type: ignore[call-overload]  # every defence is a dataclass
        anchor="anchor" in defence.needs,
        intact=intact,
        before=intact if job.contamination is None else rates(suspect, entry, split),
        after=rates(repaired, entry, split),
        seconds=wall,
        cpu_seconds=cpu,
        start_bytes=start,
        peak_bytes=peak,
        note="",
        versions={
            "depurate": version("depurate"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        threads=torch.get_num_threads(),
        device=device_name,
        device_bytes=device_bytes,
    )


def rates(model: nn.Module, entry: ZooEntry, split: Split) -> Rates:
    """Measure a network of an entry on the images that no defence sees."""
    kind, images, labels = network(entry.record.network), split.measured, split.measured_labels
    fooled = None if entry.attack is None else success(model, kind, entry.attack, images, labels)
    return Rates(accuracy(model, kind, images, labels), fooled)


def _contaminated(model: nn.Module, job: Job) -> nn.Module:
    suspect = copy.deepcopy(model)
    if job.contamination is not None:
        suspect.load_state_dict(parse_noise(job.contamination).apply(model.state_dict(), job.seed).values)
    return suspect.eval()


def _given(entry: ZooEntry, defence: Defence, job: Job, images: Path) -> Given:
    dataset = dataset_named(entry.record.dataset)
    # Nothing beyond what a defence asks for is within its reach; shapes are all that others see of the images.
    labelled, labels = load_benign(images, max(job.labels, 1))
    unlabelled, _ = load_benign(images, max(job.images, 1))
    return Given(
        images=entry.normalise(labelled),
        labels=labels,
        unlabelled=entry.normalise(unlabelled),
        anchor=entry.anchor.state_dict() if "anchor" in defence.needs else None,
        black=-entry.record.mean / entry.record.deviation,
        unit=1 / entry.record.deviation,
        shift=dataset.shift,
        mirrored=dataset.mirrored,
    )


def main(path: str) -> int:
    """Run the task in a file and write its record; bad input becomes one line on standard error."""
    task = json.loads(Path(path).read_text(encoding="utf-8"))
    torch.set_num_threads(task["threads"])
    try:
        record = run_job(Job(**task["job"]), Path(task["zoo"]), Path(task["images"]), task["device"])
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    write_text(Path(task["out"]), record.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
