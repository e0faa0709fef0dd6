"""`purify` from outside: what it takes, what it leaves alone, what it returns."""

import copy
import json
from itertools import groupby

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from depurate import Guarantee, InputError, purify
from networks import contaminate, convolutional, pictures, trained_on_few

NAN, INF = float("nan"), float("inf")


def states_equal(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[name].nan_to_num(7), other[name].nan_to_num(7))
        and one[name].dtype == other[name].dtype
        for name in one
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options", [{"method": "soft", "strength": 0.1}, {"method": "exact"}, {"method": "auto"}]
)
def test_the_suspect_is_untouched_and_modes_are_kept(training, options):
    net, images = convolutional().train(training), pictures()
    net[3].eval()
    net[0].weight.requires_grad_(False)
    before, kept = copy.deepcopy(net.state_dict()), images.clone()
    state = torch.get_rng_state()
    result = purify(net, images, **options)
    assert states_equal(net.state_dict(), before)
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    for network in (net, result.model):
        assert network.training is training
        assert not network[3].training
        assert network[1].training is training
        assert [p.requires_grad for p in network.parameters()] == [False] + [True] * 6
    assert result.model is not net
    assert [p.dtype for p in result.model.parameters()] == [torch.float32] * 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", ["soft", "exact"])
def test_every_precision_comes_back_as_it_was(dtype, method):
    net = convolutional().to(dtype)
    result = purify(net, pictures(20).to(dtype), method=method)
    assert {p.dtype for p in result.model.parameters()} == {dtype}
    assert all(bool(value.isfinite().all()) for value in result.model.state_dict().values())
    json.loads(result.to_json())


def as_pairs(images):
    return [(batch, torch.zeros(len(batch))) for batch in images.split(16)]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: list(x.split(16)),
        as_pairs,
        lambda x: (batch for batch in x.split(7)),
        lambda x: DataLoader(TensorDataset(x, torch.zeros(len(x))), batch_size=13),
        lambda x: x.double(),
        lambda x: x.clone().requires_grad_(True),
    ],
    ids=["batches", "pairs", "generator", "loader", "double", "with gradients"],
)
def test_images_in_any_form_give_the_same_answer(form):
    net, images = convolutional(), pictures()
    wanted = purify(net, images, method="soft", strength=0.1)
    found = purify(net, form(images), method="soft", strength=0.1)
    assert states_equal(found.model.state_dict(), wanted.model.state_dict())
    assert found.record.images == 60


def test_a_seed_fixes_everything_and_global_randomness_nothing():
    net, images = convolutional(), pictures(200)
    runs = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        runs.append(purify(net, images, method="soft", seed=3, max_images=80))
    assert states_equal(runs[0].model.state_dict(), runs[1].model.state_dict())
    assert runs[0].record.trials == runs[1].record.trials
    other = purify(net, images, method="soft", seed=4, max_images=80)
    assert not states_equal(runs[0].model.state_dict(), other.model.state_dict())
    assert runs[0].record.images == 80
    assert any("random sample of 80 of the 200 images" in said for said in runs[0].record.warnings)


def test_progress_counts_every_phase_to_its_end():
    net, said = convolutional(), []
    result = purify(net, pictures(), method="soft", progress=lambda *step: said.append(step))
    phases = [list(group) for _, group in groupby(said, key=lambda step: step[0])]
    for phase in phases:
        assert [step[1:] for step in phase] == [(i, len(phase)) for i in range(1, len(phase) + 1)]
        assert len(phase) == (20 if phase[0][0].startswith("confirming") else 4)
    names = [phase[0][0] for phase in phases]
    trying = [f"trying strength {trial.strength}" for trial in result.record.trials]
    assert names[: len(trying)] == trying
    assert names[-1] == "purifying"
    assert all(name.startswith("confirming strength") for name in names[len(trying) : -1])
    said.clear()
    purify(net, pictures(), method="soft", strength=0.1, progress=lambda *step: said.append(step))
    assert [step for step in said if step[1] == 1] == [
        ("purifying", 1, 4),
        ("checking on held-back images", 1, 4),
    ]


@pytest.mark.parametrize("wrap", [lambda y: (y, y), lambda y: {"logits": y}, lambda y: {"out": y, "aux": y}])
def test_outputs_in_tuples_and_dicts(wrap):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = convolutional()

        def forward(self, x):
            return wrap(self.inner(x))

    result = purify(Wrapped(), pictures(), method="soft", strength=0.1)
    plain = purify(convolutional(), pictures(), method="soft", strength=0.1)
    assert states_equal(result.model.inner.state_dict(), plain.model.state_dict())
    assert result.record.agreement == plain.record.agreement


def test_a_shared_module_stays_shared():
    torch.manual_seed(0)
    shared = nn.Linear(6, 6)
    net = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(6, 2))
    result = purify(net, torch.randn(60, 6), method="soft", strength=0.3)
    assert result.model[0] is result.model[2]
    assert [layer.name for layer in result.layers] == ["0", "3"]
    assert result.record.untouched == ()


def test_what_is_not_covered_is_named():
    class Partly(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.never = nn.Linear(5, 5), nn.Linear(5, 5)
            self.norm, self.tied, self.twin = nn.LayerNorm(5), nn.Linear(5, 5), nn.Linear(5, 5)
            self.twin.weight = self.tied.weight

        def forward(self, x):
            return self.twin(self.tied(self.norm(self.first(x))))

    result = purify(Partly(), torch.randn(60, 5), method="soft", strength=0.3)
    assert [layer.name for layer in result.layers] == ["first"]
    covered = {"first.weight", "first.bias"}
    names = dict(Partly().named_parameters())
    assert result.record.untouched == tuple(name for name in names if name not in covered)


def test_an_anchor_may_be_a_network_or_its_state():
    net, anchor, images = convolutional(), convolutional(1), pictures()
    by_state = purify(net, images, anchor.state_dict(), method="soft", strength=0.3)
    by_network = purify(net, images, anchor, method="soft", strength=0.3)
    assert states_equal(by_state.model.state_dict(), by_network.model.state_dict())
    assert by_state.record.anchor == "given"
    unknown = purify(net, images, method="soft", strength=0.3)
    assert unknown.record.anchor == "unknown (zero)"
    assert not states_equal(unknown.model.state_dict(), by_state.model.state_dict())
    assert any("unrelated" in said for said in by_state.record.warnings)


def test_a_layer_equal_to_its_anchor_comes_back_bit_for_bit():
    net = convolutional()
    anchor = {name: value.clone() for name, value in net.state_dict().items() if name.startswith("6")}
    result = purify(net, pictures(), anchor, method="soft", strength=0.5)
    assert torch.equal(result.model[6].weight, net[6].weight)
    assert torch.equal(result.model[6].bias, net[6].bias)
    assert result.layers[-1].guarantee is Guarantee.UNCHANGED
    assert not torch.equal(result.model[0].weight, net[0].weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"anchor": {"6.weight": torch.zeros(3, 65)}},
            r"anchor: 6.weight is \(3, 65\), the suspect's is \(3, 64\)",
        ),
        ({"anchor": {"fc.weight": torch.zeros(3, 64)}}, "anchor: none of its 1 names .* fc.weight"),
        ({"anchor": {}}, "anchor: none of its 0 names"),
        ({"anchor": {"6.bias": torch.tensor([0, NAN, INF])}}, "anchor: 6.bias has 2 NaN or Inf"),
        ({"method": "magic"}, "method: 'magic'; expected one of auto, exact, soft"),
        ({"method": "exact", "strength": 0.1}, "strength: 0.1 given, but the exact method has none"),
        ({"strength": 0.0}, "strength: 0.0; expected a number over 0"),
        ({"strength": -1}, "strength: -1"),
        ({"strength": NAN}, "strength: nan"),
        ({"strength": INF}, "strength: inf"),
        ({"images": pictures(9)}, "images: 9 given; at least 10"),
        ({"images": (255 * pictures()).to(torch.uint8)}, r"images: pixels are bytes .*divide them by 255"),
        ({"images": []}, "images: 0 given"),
        ({"images": torch.zeros(0, 2, 6, 6)}, "images: 0 given"),
        ({"images": pictures().masked_fill(pictures() > 3, NAN)}, "NaN or Inf among the pixel values"),
        (
            {"images": [torch.zeros(8, 2, 6, 6), torch.zeros(8, 2, 7, 7)]},
            r"shape \(2, 7, 7\) after \(2, 6, 6\)",
        ),
        ({"images": [{"x": torch.zeros(8, 2, 6, 6)}]}, "got dict"),
        ({"images": torch.zeros(20)}, r"got a tensor of shape \(20,\)"),
        ({"images": None}, "images: expected a tensor or batches of them, got NoneType"),
        (
            {"images": list(pictures())},
            r"does not accept images of shape \(6, 6\): .*have to be stacked first",
        ),
        ({"max_images": 9}, "max_images: 9; at least 10"),
        ({"max_images": -1}, "max_images: -1"),
        ({"anchor": "init.pt"}, "anchor: expected a network, a state dict or None, got str"),
        ({"images": torch.zeros(20, 3, 6, 6)}, r"does not accept images of shape \(3, 6, 6\)"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_bad_input_is_told_in_one_line(change, message):
    arguments = {"images": pictures(), **change}
    with pytest.raises(InputError, match=message) as raised:
        purify(convolutional(), **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.ReLU(), nn.Flatten()), "no floating-point parameters"),
        (nn.Sequential(nn.Flatten(), nn.LayerNorm(72)), "no convolution or dense layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(72, 1)), r"shape \(1,\) an image"),
        (nn.Sequential(nn.Conv2d(2, 3, 3)), r"shape \(3, 4, 4\) an image"),
        (nn.Linear(72, 3).state_dict(), "model: expected a network .* got OrderedDict"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "model: has lazy layers"),
        (nn.Sequential(nn.Flatten(), nn.Linear(72, 3, device="meta")), "model: was made on the meta device"),
    ],
)
def test_networks_that_cannot_be_purified_say_so(net, message):
    with pytest.raises(InputError, match=message):
        purify(net, pictures(), progress=lambda *_: pytest.fail("only found out after the work"))


def test_few_images_use_the_default_strength_and_say_so():
    result = purify(convolutional(), pictures(20), method="soft")
    assert result.record.agreement is None
    assert result.record.trials == ()
    assert {layer.strength for layer in result.layers if layer.method == "soft"} == {0.1}
    assert any("too few images to choose" in said for said in result.record.warnings)
    assert any("only 20 benign images" in said for said in result.record.warnings)


def test_a_wide_network_with_few_images_takes_seconds():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(25_000, 20, bias=False), nn.ReLU(), nn.Linear(20, 3))
    for method in ("auto", "soft"):
        result = purify(net, torch.randn(40, 25_000), method=method)
        assert result.record.seconds < 20
        assert result.layers[0].patches == 40
    assert any("saw fewer benign patches than directions" in said for said in result.record.warnings)


@pytest.mark.parametrize("method", ["exact", "auto"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sparse_noise_is_undone_where_images_leave_room(method, dtype):
    clean, anchor, images = trained_on_few(dtype=dtype)
    images = images.to(dtype)
    suspect = copy.deepcopy(clean)
    hits = contaminate(suspect)
    result = purify(suspect, images, anchor, method=method)
    first = result.layers[0]
    assert (first.method, first.guarantee, first.certified, first.rank) == ("exact", Guarantee.EXACT, 8, 12)
    assert first.contaminated == int(hits.sum())
    found = result.model[0].weight.detach()
    assert torch.equal(found[~hits], suspect[0].weight[~hits])
    limit = 1e-4 if dtype is torch.float32 else 1e-9
    torch.testing.assert_close(found, clean[0].weight.detach(), atol=limit, rtol=limit)
    assert torch.equal(result.model[2].weight, suspect[2].weight)
    assert result.record.guarantee is Guarantee.EXACT


def test_exact_recovery_is_not_lost_to_holding_images_back():
    """The span of four fifths of the images does not hold what training did with all; no strength is tried."""
    clean, anchor, images = trained_on_few(count=60, fan_in=600)
    suspect, said = copy.deepcopy(clean), set()
    hits = contaminate(suspect)
    result = purify(suspect, images, anchor, progress=lambda *step: said.add(step[0]))
    assert result.layers[0].contaminated == int(hits.sum())
    torch.testing.assert_close(result.model[0].weight, clean[0].weight, atol=1e-4, rtol=1e-4)
    assert result.record.trials == ()
    assert not any("strength" in step for step in said)
    assert result.record.agreement is None


DAMAGED = {
    "0.weight": "0",
    "3.weight": "3",
    "3.bias": "3",
    "6.weight": "6",
    "6.bias": "6",
    "1.running_mean": "1",
    "1.running_var": "1",
    "1.weight": None,
    "1.bias": None,
}


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("value", [NAN, INF, 1e38])
def test_damage_is_named_filled_and_nothing_else_changes(name, value):
    net = convolutional()
    net.state_dict()[name].view(-1)[1:3] = value
    # As nobody trained this network `auto` goes on to find short cuts in it.
    result = purify(net, pictures(), method="robust")
    for key, found in result.model.state_dict().items():
        assert bool(found.isfinite().all()), key
        changed = (found != net.state_dict()[key]).flatten().nonzero().flatten().tolist()
        assert changed == ([1, 2] if key == name else []), key
    assert bool(result.model(pictures(5)).isfinite().all())
    record = next((layer for layer in result.layers if layer.name == DAMAGED[name]), None)
    if record is None:
        assert any(said.startswith(f"{name}: 2 of 4 entries") for said in result.record.warnings)
    else:
        assert record.contaminated == 2
        assert record.nonfinite == (0 if value == 1e38 else 2)
        assert record.notes
    assert "no backdoor was looked for: that is done by the auto method" in result.record.warnings
    json.loads(result.to_json())


@pytest.mark.parametrize("options", [{}, {"method": "soft"}, {"method": "exact"}, {"strength": 0.1}])
def test_damage_is_survived_by_every_method(options):
    net = convolutional()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = NAN
        net[1].running_mean[0] = INF
        net[1].weight[1] = -INF
        net[6].weight[:, :5] = 1e38
    result = purify(net, pictures(), **options)
    assert bool(result.model(pictures(5)).isfinite().all())
    assert result.layers[0].nonfinite == 1
    assert result.layers[-1].contaminated == 15
    json.loads(result.to_json())


def test_a_wholly_destroyed_layer_takes_the_anchor():
    net, anchor = convolutional(), convolutional()
    with torch.no_grad():
        net[6].weight.fill_(NAN)
    result = purify(net, pictures(), anchor)
    assert torch.equal(result.model[6].weight, anchor[6].weight)


def test_signatures_of_a_bad_run_are_silent_in_a_good_one():
    net, images = convolutional(), pictures(200)
    net[1].momentum = None
    net(images)
    with torch.no_grad():
        net[6].weight.mul_(100)
    anchor = {
        name: value + 0.01 * torch.randn_like(value.float()) for name, value in net.state_dict().items()
    }
    assert purify(net, images, anchor, method="soft", strength=0.01).record.warnings == ()
    (itself,) = purify(net, images, net, method="soft", strength=0.01).record.warnings
    assert itself.startswith("the anchor equals the suspect in all")
    strange = purify(net, 4 * images + 3, convolutional(7), method="soft", strength=0.01).record.warnings
    assert [said[:40] for said in strange] == [
        "the benign images do not look like the t",
        "the anchor is unrelated to the suspect (",
    ]
