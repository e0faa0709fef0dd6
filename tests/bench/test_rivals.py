"""Each rival does what its paper says, on networks small enough to see it."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from depurate.bench.defences.given import Given
from depurate.bench.defences.rivals import RIVALS
from depurate.bench.defences.rivals.anp import AdversarialNeuronPruning
from depurate.bench.defences.rivals.bcu import UnlabelledDistillation
from depurate.bench.defences.rivals.clp import ChannelLipschitzPruning, lipschitz
from depurate.bench.defences.rivals.fine_pruning import FinePruning, mean_activations
from depurate.bench.defences.rivals.fine_tuning import FineTuning
from depurate.bench.defences.rivals.ft_sam import SharpnessAwareFineTuning, worst_step
from depurate.bench.defences.rivals.ibau import ImplicitUnlearning
from depurate.bench.defences.rivals.low_rank import LowRankSparse
from depurate.bench.defences.rivals.nad import NeuralAttentionDistillation, attention
from depurate.bench.defences.rivals.neurons import neurons_of, prune_by_accuracy
from depurate.bench.defences.rivals.rnp import ReconstructiveNeuronPruning
from depurate.bench.defences.rivals.robust_reset import RobustReset
from depurate.bench.defences.rivals.structure import layers_of, stage_ends
from depurate.bench.defences.rivals.training import Schedule, accuracy, augment
from depurate.bench.defences.spec import parse_defence
from depurate.errors import InputError

SHORT = Schedule(epochs=3, rate=0.05, batch=32)
QUICK = {
    "ft": FineTuning(SHORT),
    "fp": FinePruning(schedule=SHORT),
    "nad": NeuralAttentionDistillation(replace(SHORT, drops=(1, 2))),
    "anp": AdversarialNeuronPruning(iterations=5, batch=32),
    "clp": ChannelLipschitzPruning(),
    "i-bau": ImplicitUnlearning(rounds=1, batch=32),
    "ft-sam": SharpnessAwareFineTuning(schedule=SHORT),
    "rnp": ReconstructiveNeuronPruning(forgetting=SHORT, epochs=2),
    "bcu": UnlabelledDistillation(schedule=SHORT),
    "reset": RobustReset(),
    "low-rank": LowRankSparse(),
    "anchor-average": RIVALS["anchor-average"](),
}


def plain(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    ).eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.inner_norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, images):
        first = torch.relu(self.norm(self.stem(images)))
        return self.head(torch.relu(self.inner_norm(self.inner(first)) + first).mean((2, 3)))


def residual(seed=0):
    torch.manual_seed(seed)
    return Residual().eval()


def given(count=96, seed=1):
    """Three classes told apart by which third of the image is bright."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = 0.3 * torch.rand(count, 1, 8, 8, generator=generator)
    for index, label in enumerate(labels.tolist()):
        images[index, :, :, 3 * label : 3 * label + 2] += 0.7
    return Given(images, labels, images[: count // 2], anchor=plain(9).state_dict())


def trained(net, data, target=0.3):
    """Train until the loss falls to the target, and no further: gradients must not vanish."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    while loss(net.eval(), data) > target:
        net.train()
        optimiser.zero_grad()
        cross_entropy(net(data.images), data.labels).backward()
        optimiser.step()
    return net.eval()


def loss(net, data):
    with torch.no_grad():
        return cross_entropy(net(data.images), data.labels).item()


@pytest.mark.parametrize("build", [plain, residual])
@pytest.mark.parametrize("name", QUICK)
def test_no_rival_changes_what_it_is_given_and_equal_seeds_give_equal_networks(name, build):
    net, data = build(), given()
    data = replace(data, anchor=build(9).state_dict())
    before, pixels = copy.deepcopy(net.state_dict()), data.images.clone()
    one, two = (QUICK[name].defend(net, data, seed=3) for _ in range(2))
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(data.images, pixels)
    assert not one.training
    for key, value in one.state_dict().items():
        assert torch.equal(value, two.state_dict()[key])
        assert value.isfinite().all()


def test_published_settings():
    assert FineTuning().schedule == Schedule(100, 0.01, 256)
    assert (AdversarialNeuronPruning().iterations, AdversarialNeuronPruning().budget) == (2000, 0.4)
    assert ChannelLipschitzPruning().spread == 3
    assert SharpnessAwareFineTuning().radius == 2
    assert set(QUICK) == set(RIVALS)


def test_structure_follows_forward_order_and_pairs_norms():
    found = layers_of(residual(), torch.Size((1, 1, 8, 8)))
    assert [(layer.name, layer.norm, layer.size) for layer in found] == [
        ("stem", "norm", 8),
        ("inner", "inner_norm", 8),
        ("head", None, 1),
    ]
    assert stage_ends(plain(), torch.Size((1, 1, 8, 8))) == ("1", "4")


def test_augmentation_only_does_what_is_allowed():
    data, generator = given(), torch.Generator().manual_seed(0)
    assert torch.equal(augment(data.images, data, generator), data.images)
    moved = augment(data.images, replace(data, shift=2, black=-1.0), generator)
    assert moved.shape == data.images.shape
    assert (moved == -1.0).any()
    flipped = augment(data.images, replace(data, mirrored=True), generator)
    same = (flipped == data.images).flatten(1).all(1)
    mirrored = (flipped == data.images.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert same.any()
    assert mirrored.any()


def test_fine_tuning_lowers_the_training_loss():
    net, data = plain(), given()
    assert loss(FineTuning(replace(SHORT, epochs=20)).defend(net, data, 0), data) < 0.5 * loss(net, data)


def test_fine_pruning_removes_the_silent_channel_for_good():
    data = given()
    net = trained(plain(), data)
    with torch.no_grad():
        net[3].bias[2] = -50.0  # never active
    tuned = FinePruning(schedule=SHORT).defend(net, data, 0)
    assert tuned[3].weight[2].abs().max() == 0
    assert tuned[3].bias[2] == 0
    assert accuracy(tuned, data) > 0.9


def test_mean_activations_are_means():
    net, data = residual(), given()
    layer = layers_of(net, data.images.shape)[0]
    expected = torch.relu(net.norm(net.stem(data.images))).mean((0, 2, 3))
    assert torch.allclose(mean_activations(net, layer, data.images), expected, atol=1e-6)


def test_attention_is_a_unit_vector_that_ignores_scale():
    features = torch.randn(5, 4, 6, 6)
    looked = attention(features, 2.0)
    assert torch.allclose(looked.norm(dim=1), torch.ones(5))
    assert torch.allclose(looked, attention(7 * features, 2.0), atol=1e-6)
    assert torch.allclose(
        looked[0] * features[0].square().sum(0).norm(), features[0].square().sum(0).flatten()
    )


def test_distillation_pulls_attention_towards_the_teacher():
    data, schedule = given(), Schedule(10, 0.05, 32)
    net, teacher = plain(), trained(plain(5), data)

    def distance(weights):
        student = NeuralAttentionDistillation(schedule, weights).distil(net, teacher, data, seed=0)
        with torch.no_grad():
            pairs = [
                [attention(model[:end](data.images), 2.0) for model in (student, teacher)] for end in (2, 5)
            ]
        return sum((one - other).norm().item() for one, other in pairs)

    assert distance((5.0, 10.0)) < 0.7 * distance((0.0, 0.0))


def test_anp_attacks_within_its_box_and_raises_the_loss():
    data = given()
    net = trained(residual(), data)
    neurons = neurons_of(net, data.images.shape)
    ones, rival = neurons.constant(1.0), AdversarialNeuronPruning()
    delta, xi = rival.perturbation(neurons, ones, data.images, data.labels, torch.Generator().manual_seed(0))
    for value in (*delta.values(), *xi.values()):
        assert value.abs().max() <= 0.4
    weights = {name: 1 + delta[name] for name in ones}
    attacked = neurons.scaled_answers(data.images, weights, {name: 1 + xi[name] for name in ones})
    assert cross_entropy(attacked, data.labels) > loss(net, data)
    assert torch.allclose(neurons.scaled_answers(data.images, ones, ones), net(data.images))


@pytest.mark.parametrize("build", [plain, residual])
def test_anp_masks_lie_between_zero_and_one_and_some_fall(build):
    data = given()
    net = trained(build(), data, target=0.01)
    masks = AdversarialNeuronPruning(iterations=30, batch=32).masks(net, data, seed=0)
    values = torch.cat(list(masks.values()))
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.min() < 0.9


def test_the_threshold_is_the_largest_that_clean_accuracy_tolerates():
    data = given()
    net = trained(plain(), data, target=0.01)
    neurons = neurons_of(net, data.images.shape)
    masks = {name: torch.linspace(0.05, 1, len(mask)) for name, mask in neurons.constant(1.0).items()}
    pruned = prune_by_accuracy(neurons, masks, data, tolerated=0.05)
    assert accuracy(pruned, data) >= accuracy(net, data) - 0.05
    zeros = sum(int((pruned[i].weight.flatten(1) == 0).all(1).sum()) for i in (0, 3, 6))
    assert zeros > 0
    assert neurons.names == ("0", "3", "6")


@pytest.mark.parametrize("build", [plain, residual])
def test_anp_closes_a_planted_backdoor(build):
    def stamped(images):
        marked = images.clone()
        marked[:, :, -2:, -2:] = 1.5
        return marked

    clean, data, test = given(300, 1), given(96, 2), given(300, 3)
    poisoned = replace(
        clean,
        images=torch.cat([clean.images, stamped(clean.images[:90])]),
        labels=torch.cat([clean.labels, torch.zeros(90, dtype=torch.long)]),
    )
    net = trained(build(), poisoned, target=0.001)
    others = test.labels != 0
    target = replace(
        test, images=stamped(test.images[others]), labels=torch.zeros(int(others.sum()), dtype=torch.long)
    )
    assert accuracy(net, target) > 0.95
    pruned = AdversarialNeuronPruning(iterations=200, batch=32).defend(net, data, seed=0)
    assert accuracy(pruned, test) > 0.9
    assert accuracy(pruned, target) < 0.1


def test_clp_prunes_the_channel_with_a_planted_lipschitz_constant_and_no_other():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 36, 3)
    )
    with torch.no_grad():
        net[1].running_var[5] = 1e-4  # a tiny deviation is a large gain
    data = Given(torch.zeros(1, 2, 8, 8), torch.zeros(1), torch.full((1, 2, 8, 8), float("nan")))
    pruned = ChannelLipschitzPruning().defend(net.eval(), data, 0)
    assert (pruned[1].weight == 0).nonzero().flatten().tolist() == [5]
    assert pruned[1].bias[5] == 0
    assert torch.equal(pruned[0].weight, net[0].weight)


def test_clp_bound_is_the_spectral_norm_with_the_gain_of_batchnorm():
    net = residual()
    with torch.no_grad():
        net.norm.weight.copy_(torch.randn(8))
        net.norm.running_var.copy_(torch.rand(8) + 0.1)
    layer = layers_of(net, torch.Size((1, 1, 8, 8)))[0]
    for channel, bound in enumerate(lipschitz(net, layer).tolist()):
        gain = net.norm.weight[channel].detach().abs() / (net.norm.running_var[channel] + net.norm.eps).sqrt()
        assert bound == pytest.approx(
            float(gain * torch.linalg.svdvals(net.stem.weight[channel].detach().reshape(1, 9))[0])
        )


def test_ibau_perturbation_stays_in_its_ball_and_raises_the_loss():
    data = given()
    net, rival = trained(plain(), data), ImplicitUnlearning(radius=1.0, ascent=5.0)
    delta = rival.perturbation(net, data, list(torch.arange(96).split(32)))
    assert delta.norm() <= 1.0 + 1e-6
    assert loss(net, replace(data, images=data.images + delta)) > loss(net, data)


def test_ibau_hypergradient_equals_differentiation_through_the_inner_steps():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
    data = Given(torch.randn(12, 1, 2, 2).double(), torch.arange(12) % 3, torch.zeros(1, 1, 2, 2))
    # A strong shrink makes the inner problem concave, so that its maximiser is a fixed point.
    rival = ImplicitUnlearning(shrink=1.0, share=1.0, terms=4)
    everything, delta = torch.arange(12), torch.zeros(1, 1, 2, 2).double()
    for _ in range(2000):
        delta = _ascend(rival, net, data, delta).detach()
    torch.set_default_dtype(torch.float64)
    try:
        found = rival._hypergradient(net, data, everything, everything, everything, delta)
    finally:
        torch.set_default_dtype(torch.float32)
    unrolled = delta
    for _ in range(rival.terms):
        unrolled = _ascend(rival, net, data, unrolled)
    outer = cross_entropy(net(data.images + unrolled), data.labels)
    for one, other in zip(found, torch.autograd.grad(outer, list(net.parameters())), strict=True):
        assert torch.allclose(one, other, atol=1e-10)


def _ascend(rival, net, data, delta):
    at = delta if delta.requires_grad else delta.requires_grad_(True)
    inner = rival._inner(net, data.images, data.labels, at, 1.0)
    return at - rival.inner_step * torch.autograd.grad(inner, at, create_graph=True)[0]


def test_ft_sam_step_is_the_steepest_in_its_ellipsoid():
    torch.manual_seed(0)
    weights = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(5))]
    slopes = (torch.randn(4, 3), torch.randn(5))
    step = worst_step(weights, slopes, 2.0)

    def scaled(moves):
        return torch.cat([(move / weight).flatten() for move, weight in zip(moves, weights, strict=True)])

    def rise(moves):
        return sum(float((move * slope).sum()) for move, slope in zip(moves, slopes, strict=True))

    assert scaled(step).norm().item() == pytest.approx(2.0, rel=1e-5)
    for _ in range(200):
        other = [torch.randn_like(weight) for weight in weights]
        size = 2.0 / scaled(other).norm().item()
        assert rise([size * move for move in other]) < rise(step)


def test_ft_sam_learns_and_leaves_batchnorm_as_it_was_configured():
    net, data = residual(), given()
    tuned = SharpnessAwareFineTuning(radius=0.1, schedule=replace(SHORT, epochs=20)).defend(net, data, 0)
    assert loss(tuned, data) < loss(net, data)
    assert tuned.norm.momentum == net.norm.momentum


def test_rnp_unlearns_until_the_task_is_forgotten():
    data = given()
    net = trained(residual(), data)
    rival = ReconstructiveNeuronPruning(forgetting=Schedule(40, 0.05, 32), forgotten=0.2)
    forgot = rival.unlearn(net, data, torch.Generator().manual_seed(0))
    assert accuracy(net, data) > 0.9
    assert accuracy(forgot, data) < 0.5
    assert accuracy(rival.defend(net, data, 0), data) > 0.8


def test_bcu_redraws_more_with_depth_and_comes_back_to_the_suspect_without_labels():
    data = given()
    net, rival = trained(plain(), data), UnlabelledDistillation(schedule=Schedule(40, 0.05, 32))
    assert rival.redrawn_shares(net, data.images.shape) == {"0": 0.01, "3": 0.03, "6": 0.09, "8": 0.10}
    untaught = UnlabelledDistillation(schedule=replace(SHORT, epochs=0)).defend(net, data, 0)
    blind = replace(data, labels=torch.full_like(data.labels, -1))

    def divergence(student):
        with torch.no_grad():
            pair = (log_softmax(model(data.unlabelled), dim=1) for model in (student, net))
            return kl_div(*pair, reduction="batchmean", log_target=True).item()

    assert divergence(rival.defend(net, blind, 0)) < 0.5 * divergence(untaught)
    changed = (untaught[6].weight != net[6].weight).double().mean().item()
    assert changed == pytest.approx(0.09, abs=0.03)


def test_reset_takes_back_outliers_and_nothing_else():
    net, data = plain(), given()
    broken = copy.deepcopy(net)
    with torch.no_grad():
        broken[6].weight[0, 0], broken[6].weight[1, 1] = 1e30, float("nan")
    repaired = RobustReset().defend(broken, data, 0)[6].weight
    assert repaired[0, 0].abs() < 0.05
    assert repaired[1, 1].isfinite()
    kept = torch.ones_like(repaired, dtype=torch.bool)
    kept[0, 0] = kept[1, 1] = False
    assert torch.equal(repaired[kept], net[6].weight[kept])
    to_anchor = replace(data, anchor=net.state_dict())
    exact = RobustReset(to_anchor=True).defend(broken, to_anchor, 0)
    assert torch.equal(exact[6].weight, net[6].weight)


def test_reset_to_the_anchor_asks_for_one_and_never_takes_the_median_instead():
    assert parse_defence("reset:to_anchor=true").needs == {"anchor"}
    assert parse_defence("reset").needs == set()
    with pytest.raises(InputError, match="reset:to_anchor=true: needs an anchor"):
        RobustReset(to_anchor=True).defend(plain(), replace(given(), anchor=None), 0)


def test_low_rank_and_sparse_parts_are_told_apart():
    torch.manual_seed(0)
    low = torch.randn(60, 3).double() @ torch.randn(3, 80).double()
    hit = torch.rand(60, 80) < 0.05
    found = LowRankSparse().low_rank(low + hit * 10 * torch.randn(60, 80).double())
    assert (found - low).norm() / low.norm() < 1e-4


def test_anchor_average_is_the_mean_and_needs_an_anchor():
    net, data = plain(), given()
    averaged = RIVALS["anchor-average"]().defend(net, data, 0)
    assert torch.allclose(averaged[0].weight, (net[0].weight + data.anchor["0.weight"]) / 2)
    with pytest.raises(InputError, match="needs an anchor"):
        RIVALS["anchor-average"]().defend(net, replace(data, anchor=None), 0)
