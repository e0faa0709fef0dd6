"""Networks that do things in ways of their own: softmax at the end, pixels changed in place, no slopes, odd calls."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from depurate import Guarantee, InputError, purify


class Scored(nn.Module):
    """A small network that normalises its images as it is told to."""

    def __init__(self, normalise):
        super().__init__()
        self.normalise = normalise
        self.convolution = nn.Conv2d(1, 8, 3)
        self.dense = nn.Linear(288, 5)

    def forward(self, images):
        images = self.normalise(images)
        return 5 * self.dense(self.convolution(images).relu().flatten(1))


def pictures(count=60):
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def with_weights_of(other, network):
    network.load_state_dict(other.state_dict())
    return network


def test_a_softmax_at_the_end_changes_nothing():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    with torch.no_grad():
        net[3].weight.mul_(20)
    plain, ended = (
        purify(network, pictures(200), method="soft").record
        for network in (net, nn.Sequential(*net, nn.Softmax(1)))
    )
    assert [trial.strength for trial in plain.trials if trial.chosen] == [
        trial.strength for trial in ended.trials if trial.chosen
    ]
    assert ended.agreement.agreement == plain.agreement.agreement
    assert ended.agreement.expected_loss == pytest.approx(plain.agreement.expected_loss, rel=1e-4)
    assert ended.warnings == plain.warnings


def test_a_network_that_changes_its_images_in_place_is_shown_the_same_ones_each_time():
    torch.manual_seed(0)
    kept = Scored(lambda images: (images - 0.5) / 0.25)
    changed = with_weights_of(kept, Scored(lambda images: images.sub_(0.5).div_(0.25)))
    one, other = (purify(net, pictures(), method="soft", strength=0.03) for net in (kept, changed))
    assert all(
        torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True)
    )
    assert one.record.agreement == other.record.agreement
    assert not other.model._forward_pre_hooks


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_caller_may_have_switched_gradients_off(mode):
    torch.manual_seed(0)
    with mode():
        net = Scored(lambda images: images)
        result = purify(net, pictures())
    assert result.record.search is not None


def _without_gradients(images):
    with torch.no_grad():
        return images.clone()


@pytest.mark.parametrize("normalise", [_without_gradients, lambda images: (images * 255).round() / 255])
@pytest.mark.parametrize("options", [{}, {"strength": 0.1}, {"method": "robust"}])
def test_scores_that_cannot_be_followed_to_the_pixels_are_not_searched(normalise, options):
    torch.manual_seed(0)
    record = purify(Scored(normalise), pictures(), **options).record
    assert record.search is None
    said = any("slopes on the pixels" in warning for warning in record.warnings)
    assert said == ("method" not in options)


class Called(nn.Module):
    """A dense layer called by keyword, and one shown a single vector."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.token = nn.Parameter(torch.randn(16))

    def forward(self, images):
        return self.last((self.first(input=images.flatten(1)) + self.second(self.token)).relu())


@pytest.mark.parametrize("method", ["auto", "soft", "robust", "exact"])
def test_layers_may_be_called_in_other_ways(method):
    torch.manual_seed(0)
    record = purify(Called(), pictures(), method=method).record
    assert [layer.name for layer in record.layers] == ["first", "last"]
    assert record.untouched == ("token", "second.weight", "second.bias")


def test_what_a_network_raises_ends_in_one_line():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(64, 3)

        def forward(self, images):
            assert images.shape[-1] == 9, "pictures of 9 pixels are wanted"
            return self.dense(images.flatten(1))

    with pytest.raises(InputError, match=r"\(1, 8, 8\): pictures of 9 pixels are wanted"):
        purify(Picky(), pictures())


@pytest.mark.parametrize("method", ["auto", "soft", "robust"])
@pytest.mark.parametrize("count", [129, 61])
def test_normalisations_that_keep_nothing_never_meet_one_image_alone(method, count):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 16),
        nn.BatchNorm1d(16, track_running_stats=False),
        nn.ReLU(),
        nn.Linear(16, 3),
    )
    assert purify(net, pictures(count), method=method).record.images == count


def test_a_bare_layer_finds_its_anchor():
    torch.manual_seed(0)
    images, anchor = torch.randn(10, 200).double(), nn.Linear(200, 5, bias=False).double()
    clean = anchor.weight.detach() + torch.randn(5, 10).double() @ images * 0.05
    hit = torch.where(torch.rand(5, 200) < 0.1, clean + 1, clean)
    net = nn.Linear(200, 5, bias=False).double()
    net.load_state_dict({"weight": hit})
    result = purify(net, images, anchor=anchor, method="exact")
    assert result.record.guarantee is Guarantee.EXACT
    assert (result.model.weight - clean).abs().max() < 1e-12


def plain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()


@pytest.mark.parametrize("method", ["auto", "soft", "robust"])
@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: torch.compile(net, backend="eager")])
def test_wrapped_networks_come_back_wrapped(wrap, method):
    result = purify(wrap(plain()), pictures(), anchor=wrap(plain()), method=method)
    bare = purify(plain(), pictures(), anchor=plain(), method=method)
    assert type(result.model) is type(wrap(plain()))
    assert [layer.name for layer in result.record.layers] == ["0", "3"]
    assert all(
        torch.equal(a, b) for a, b in zip(result.model.parameters(), bare.model.parameters(), strict=True)
    )


def test_a_script_is_refused():
    with pytest.raises(InputError, match="TorchScript"):
        purify(torch.jit.trace(plain(), pictures(1)), pictures())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_computed_weights_are_copied_and_left_alone():
    net = plain()
    torch.nn.utils.weight_norm(net[0])
    record = purify(net, pictures(), method="soft", strength=0.1).record
    assert [layer.name for layer in record.layers] == ["3"]
    kept = {"0.weight_g", "0.weight_v", "0.bias"}
    assert set(record.untouched) == kept
    sizes = {name: value.numel() for name, value in net.named_parameters()}
    assert record.untouched_entries == sum(sizes[name] for name in kept)
    assert record.entries == sum(sizes.values())
    assert any(
        "(0) is parametrised" in said and "remove_weight_norm(layer)" in said for said in record.warnings
    )


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "cure"),
    [
        (nn.utils.parametrizations.weight_norm, "parametrize.remove_parametrizations(layer, 'weight')"),
        (nn.utils.weight_norm, "torch.nn.utils.remove_weight_norm(layer)"),
        (nn.utils.spectral_norm, "torch.nn.utils.remove_spectral_norm(layer)"),
        (lambda layer: prune.random_unstructured(layer, "weight", 0.5), "prune.remove(layer, 'weight')"),
    ],
)
def test_where_all_layers_are_parametrised_the_error_says_what_makes_them_plain(wrap, cure):
    net = plain()
    for layer in (net[0], net[3]):
        wrap(layer)
    with pytest.raises(InputError, match="no plain convolution or dense layer") as raised:
        purify(net, pictures(), method="soft", strength=0.1)
    assert cure in str(raised.value) and "2 layers (0, 3) are parametrised" in str(raised.value)


class Contrasted(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, images):
        axes = (1, 2, 3)
        return self.net((images - images.mean(axes, keepdim=True)) / images.std(axes, keepdim=True))


@pytest.mark.parametrize("method", ["auto", "soft", "robust", "exact"])
def test_images_that_are_answered_with_nan_are_left_out_and_said_so(method):
    images = pictures()
    images[7] = 0
    record = purify(Contrasted(), images, method=method).record
    assert record.images == 59
    assert any("to 1 of 60 images the network answers NaN or Inf" in said for said in record.warnings)


def test_a_network_that_answers_nothing_but_nan_is_refused():
    class Nothing(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain()

        def forward(self, images):
            return self.net(images) * float("nan")

    with pytest.raises(InputError, match="to 60 of 60"):
        purify(Nothing(), pictures())


class Mixed(nn.Module):
    """Convolutions in automatic precision, a dense layer outside of it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3))
        self.last = nn.Linear(96, 4)

    def forward(self, images):
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.enable_grad():
            seen = self.first(images)
        return self.last(seen.float().flatten(1))


@pytest.mark.parametrize("method", ["auto", "soft", "robust"])
def test_contexts_inside_a_network_stay_inside(method):
    torch.manual_seed(0)
    with torch.no_grad():
        record = purify(Mixed(), pictures(300), method=method).record
        assert not torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
    assert len(record.layers) == 3
    assert method != "auto" or record.search is not None


def test_the_callers_automatic_precision_changes_nothing():
    alone = purify(plain(), pictures(), method="soft", strength=0.1).model
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = purify(plain(), pictures(), method="soft", strength=0.1).model
        assert torch.is_autocast_enabled("cpu")
    assert all(torch.equal(a, b) for a, b in zip(alone.parameters(), within.parameters(), strict=True))


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.last = nn.Linear(8, 8), nn.Linear(64, 4)
        mask = torch.full((8, 8), float("-inf")).triu(1)
        self.mask = nn.Parameter(mask, requires_grad=False)

    def forward(self, images):
        rows = self.query(images[:, 0])
        return self.last((torch.softmax(rows @ rows.mT + self.mask, -1) @ rows).flatten(1))


def test_a_mask_is_no_damage():
    torch.manual_seed(0)
    net = Masked()
    result = purify(net, pictures(), method="robust")
    assert result.record.guarantee is Guarantee.UNCHANGED
    assert torch.equal(result.model.mask, net.mask)


def test_a_first_parameter_of_whole_numbers_says_nothing_of_the_images():
    torch.manual_seed(0)
    net = Contrasted()
    net.register_parameter("order", nn.Parameter(torch.arange(3), requires_grad=False))
    net.register_module("net", net._modules.pop("net"))
    assert purify(net, pictures(), method="soft", strength=0.1).record.layers


class Chancy(nn.Module):
    """Dropout that evaluation mode does not switch off."""

    def __init__(self):
        super().__init__()
        self.net = plain()

    def forward(self, images):
        return self.net(nn.functional.dropout(images))


def test_a_network_that_is_random_in_evaluation_mode_is_told_of_and_moves_no_draws_of_the_callers():
    torch.manual_seed(3)
    net = Chancy()
    before = torch.get_rng_state()
    warnings = purify(net, pictures(), method="soft", strength=0.1).record.warnings
    assert any("answers the same images differently each time" in said for said in warnings)
    assert torch.equal(torch.get_rng_state(), before)
    steady = purify(plain(), pictures(), method="soft", strength=0.1).record.warnings
    assert not any("differently each time" in said for said in steady)


def test_an_anchors_state_may_have_something_before_all_its_names():
    net, anchor = plain(), plain()
    state = anchor.state_dict()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    by_state, by_wrapped = (
        purify(net, pictures(), given, method="soft", strength=0.3).model.state_dict()
        for given in (state, wrapped)
    )
    assert all(torch.equal(value, by_wrapped[name]) for name, value in by_state.items())
