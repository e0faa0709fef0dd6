"""Nothing mixes devices: the solver, every method of purification, every rival and training, on a pretended GPU."""

import copy

import pytest
import torch

from depurate import InputError, purify
from depurate.bench.defences.given import Given
from depurate.bench.defences.spec import parse_defence
from depurate.contamination.attacks import parse_attack
from depurate.demo import read_digits, train_backdoored
from depurate.devices import device_named
from depurate.solver import lad
from depurate.triggers import effort
from depurate.zoo import Order, make_entry, network
from depurate.zoo.data import Data
from depurate.zoo.recipes import Recipe
from pretended_device import THERE, DevicesMixedError, Pretended, is_there


def _problem(rows, columns, share):
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(rows, columns, generator=generator, dtype=torch.float64)
    clean = design @ torch.randn(columns, 8, generator=generator, dtype=torch.float64)
    noise = torch.randn(rows, 8, generator=generator, dtype=torch.float64)
    return design, clean + noise * (torch.rand(rows, 8, generator=generator) < share)


def _same_everywhere(here, there):
    return all(
        is_there(mine) and torch.equal(theirs, mine.cpu())
        for theirs, mine in zip(here.state_dict().values(), there.state_dict().values(), strict=True)
    )


def test_the_pretended_device_refuses_what_a_gpu_refuses():
    with Pretended():
        there = torch.ones(3).to("cuda")
        assert there.device == THERE and there.is_cuda and (there + 1).device == THERE
        assert there[torch.tensor([0, 2])].is_cuda and not there.cpu().is_cuda
        for mixed in (lambda: there + torch.ones(3), lambda: torch.ones(3)[there.long()], there.numpy):
            with pytest.raises(DevicesMixedError):
                mixed()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"quantile": 0.3},
        {"ridge": 0.1},
        {"reweight": 2},
        {"huber": 0.1},
        {"rounding": 1e-6},
        {"method": "trimming"},
        {"method": "descent"},
        {"method": "complement"},
        {"method": "interior"},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "size", [(120, 24, 0.1), (120, 24, 0.35), (120, 70, 1.0), (60, 54, 1.0), (40, 5, 0.2)]
)
def test_targets_are_solved_where_they_are(size, settings):
    design, targets = _problem(*size)
    expected = lad(design, targets, **settings)
    with Pretended():
        found = lad(design.to("cuda"), targets.to("cuda"), **settings)
        assert found.coefficients.device == THERE
        # Where tensors lie in memory decides on some processors by which instructions products are made.
        torch.testing.assert_close(found.coefficients.cpu(), expected.coefficients, rtol=1e-13, atol=1e-13)
        assert torch.equal(found.certified.cpu(), expected.certified)


@pytest.fixture(scope="module")
def digits():
    return read_digits(0)


@pytest.fixture(scope="module")
def suspect(digits):
    return train_backdoored(digits, seed=0).suspect


@pytest.mark.parametrize(
    "settings",
    [{}, {"method": "soft"}, {"method": "robust"}, {"method": "exact"}, {"strength": 0.1}, {"distil": True}],
    ids=str,
)
def test_a_network_is_purified_where_it_is(suspect, digits, settings, monkeypatch):
    # Which a GPU does not use for small pictures, and which would round otherwise.
    monkeypatch.setattr(effort, "_has_matrix_units", lambda: False)
    images = digits.benign[:80]
    expected = purify(suspect, images, **settings)
    with Pretended():
        found = purify(copy.deepcopy(suspect).to("cuda"), images.to("cuda"), **settings)
    assert _same_everywhere(expected.model, found.model)


RIVALS = (
    *("clp", "reset", "low-rank", "anchor-average", "ft", "fp", "nad", "ft-sam", "rnp", "bcu"),
    *("i-bau:steps=3,rounds=1", "anp:iterations=2"),
)


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_work_where_the_network_is(suspect, digits, name):
    images, labels = digits.benign[:40], digits.train_labels[:40]
    given = Given(images, labels, images, {k: v * 0.9 for k, v in suspect.state_dict().items()}, 0.0, 1.0, 1)
    with Pretended():
        repaired = parse_defence(name).defend(
            copy.deepcopy(suspect).to("cuda"), given.to(torch.device("cuda")), 0
        )
        assert all(parameter.device == THERE for parameter in repaired.parameters())


@pytest.mark.parametrize(
    "spec", ["badnets", "wanet", "blended", "sig:train=0.4", "hidden-update", "input-aware", "subnet", None]
)
def test_networks_of_the_zoo_train_on_a_device(spec):
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(64, 1, 28, 28, generator=generator), torch.arange(64) % 10
    kind, data = network("lenet"), Data("mnist", images, labels, images, labels, "random")
    attack = None if spec is None else parse_attack(spec + (":steps=2" if spec == "subnet" else ""))
    order = Order("mnist", "one", attack, 0.1, 0, Recipe(1, 32, 0.05), device="cuda")
    with Pretended():
        entry = make_entry(order, kind, data, base=lambda: kind.initialise(0).eval())
    assert not any(is_there(value) for value in entry.anchor.state_dict().values())
    assert entry.record.device == "cuda"


def test_devices_that_are_not_there_are_named():
    for name in ("gpu", "cuda:x", "cuda:", "tpu:0"):
        with pytest.raises(InputError, match=r"expected cpu, cuda or cuda:N"):
            device_named(name)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"device 'cuda' cannot be used"):
            device_named("cuda")
