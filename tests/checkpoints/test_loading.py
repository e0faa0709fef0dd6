"""States are loaded strictly into a copy of the network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from depurate.checkpoints import load_state, read_checkpoint
from depurate.errors import InputError


def net(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, classes))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2, bias=False)
        self.two = nn.Linear(2, 2, bias=False)
        self.two.weight = self.one.weight


def test_the_model_is_not_touched_and_the_copy_computes_the_same() -> None:
    model, other = net().train(), net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    loaded = load_state(model, other.state_dict(), source="a.pt")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert loaded.training
    x = torch.randn(4, 1, 4, 4)
    torch.testing.assert_close(loaded.eval()(x), other.eval()(x), rtol=0, atol=0)


@pytest.mark.parametrize("missing", ["1.num_batches_tracked"])
def test_batches_tracked_may_be_missing(missing: str) -> None:
    state = net().state_dict()
    del state[missing]
    load_state(net(), state, source="a.pt")


@pytest.mark.parametrize(
    ("stored", "computed"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_the_dtype_of_the_computation(stored: torch.dtype, computed: torch.dtype) -> None:
    state = net().to(stored).state_dict()
    loaded = load_state(net(), state, source="a.pt")
    assert {p.dtype for p in loaded.parameters()} == {computed}
    assert all(torch.equal(value, state[key].to(value.dtype)) for key, value in loaded.state_dict().items())
    # What the network was before plays no part.
    assert {p.dtype for p in load_state(net().half(), state, source="a.pt").parameters()} == {computed}


def test_prefixes_are_seen_through_on_either_side(tmp_path: Path) -> None:
    model = net()
    wrapped = nn.DataParallel(model)
    torch.save(wrapped.state_dict(), tmp_path / "a.pt")
    found = read_checkpoint(tmp_path / "a.pt")
    for target in (net(), nn.DataParallel(net())):
        loaded = load_state(target, found, source="a.pt")
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))


class Lightning(nn.Module):
    """Keeps the network in an attribute, as modules of Lightning do."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.DataParallel(net())


def test_whatever_stands_before_all_names_is_seen_through_on_either_side(tmp_path: Path) -> None:
    model = Lightning()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "lit.ckpt")
    torch.save(model.model.module.state_dict(), tmp_path / "plain.pt")
    for name in ("lit.ckpt", "plain.pt"):
        found = read_checkpoint(tmp_path / name)
        for target in (net(), nn.DataParallel(net()), Lightning()):
            loaded = load_state(target, found, source=name)
            assert all(
                torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True)
            )


def test_what_is_kept_beside_a_prefixed_network_is_all_that_does_not_fit() -> None:
    state = {f"model.{key}": value for key, value in net().state_dict().items()}
    assert load_state(net(), state, source="lit.ckpt")
    with pytest.raises(InputError, match=r"does not fit the network: 1 unexpected \(criterion.weight\)$"):
        load_state(net(), state | {"criterion.weight": torch.ones(3)}, source="lit.ckpt")


def test_two_names_never_become_one() -> None:
    state = {f"model.{key}": value for key, value in net().state_dict().items()}
    with pytest.raises(InputError, match=r"unexpected"):
        load_state(net(), state | {"3.bias": torch.ones(3)}, source="lit.ckpt")


def test_names_with_very_many_dots_take_no_time() -> None:
    state = {"a." * 200_000 + end: torch.ones(1) for end in ("one", "two")}
    with pytest.raises(InputError, match="2 unexpected"):
        load_state(net(), state, source="a.pt")


class HasModule(nn.Module):
    """Its own keys all start with `module.`, which is no wrapper here."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)


def test_a_network_whose_own_part_is_called_module(tmp_path: Path) -> None:
    torch.save(HasModule().state_dict(), tmp_path / "a.pt")
    load_state(HasModule(), read_checkpoint(tmp_path / "a.pt"), source="a.pt")


def changed(**entries: Tensor | None) -> dict[str, Tensor]:
    state: dict[str, Tensor | None] = {
        **net().state_dict(),
        **{key.replace("_", "."): v for key, v in entries.items()},
    }
    return {key: value for key, value in state.items() if value is not None}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed(**{"3_bias": None}), r"a.pt: does not fit the network: 1 missing \(3.bias\)"),
        (changed(extra=torch.ones(1)), r"1 unexpected \(extra\)"),
        (
            net(10).state_dict(),
            r"2 of another shape \(3.weight: \(10, 8\) in the file, \(3, 8\) in the network; 3.bias",
        ),
        (changed(**{"3_weight": torch.ones(3, 8, dtype=torch.int8)}), "3.weight is torch.int8.*dequantise"),
        (
            {f"layer{i}.w": torch.ones(1) for i in range(9)},
            r"8 missing.*9 unexpected \(layer0.w, .* and 4 more\)",
        ),
        ({}, "8 missing"),
    ],
)
def test_misfits_are_listed_in_one_line(state: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_state(net(), state, source="a.pt")
    assert "\n" not in str(caught.value)


def test_tied_tensors_may_be_stored_once_or_twice_but_not_differ() -> None:
    weight = torch.randn(2, 2)
    for state in (
        {"one.weight": weight},
        {"two.weight": weight},
        {"one.weight": weight, "two.weight": weight.clone()},
    ):
        loaded = load_state(Tied(), state, source="a.pt")
        assert all(torch.equal(p, weight) for p in loaded.parameters())
    with pytest.raises(
        InputError, match=r"one.weight and two.weight are one tensor in the network but differ"
    ):
        load_state(Tied(), {"one.weight": weight, "two.weight": weight + 1}, source="a.pt")


def test_lazy_networks_are_refused() -> None:
    with pytest.raises(InputError, match="lazy"):
        load_state(nn.Sequential(nn.LazyLinear(2)), {}, source="a.pt")


def test_contaminated_values_load_as_they_are() -> None:
    state = net().state_dict()
    state["0.weight"][0] = float("nan")
    assert load_state(net(), state, source="a.pt").state_dict()["0.weight"][0].isnan().all()
