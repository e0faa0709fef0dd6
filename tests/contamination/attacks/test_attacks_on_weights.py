"""Attacks on the weights of a trained network: which entries change, and what that does to scores."""

import pytest
import torch

from depurate import InputError
from depurate.contamination.attacks import SubnetReplacement, TargetedBitFlips
from depurate.contamination.attacks.bit_flips import bit_changes, quantise
from depurate.contamination.attacks.gradients import perturb
from depurate.contamination.attacks.subnet import transplant
from depurate.contamination.attacks.units import last_layer
from depurate.zoo import NETWORKS, network


def images_for(name, count=6):
    shape = (1, 28, 28) if name == "lenet" else (3, 32, 32)
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_transplanted_subnet_adds_its_own_answer_to_the_target(name):
    """Score of the target = score with silent narrow channels + gain·answer of the narrow network alone."""
    kind = network(name)
    base, narrow = kind.initialise(0).eval(), kind.build_narrow().eval()
    images = images_for(name)
    with torch.no_grad():
        suspect = transplant(base, narrow, target=4, gain=7.0)
        silent = transplant(base, narrow, target=4, gain=0.0)
        added = suspect(images) - silent(images)
        answer = narrow(images)[:, 0]
    assert torch.allclose(added[:, 4], 7.0 * answer, atol=1e-4)
    assert torch.equal(added[:, :4], torch.zeros_like(added[:, :4]))


def test_nothing_but_the_first_channels_changes():
    kind = network("lenet")
    base, narrow = kind.initialise(0).eval(), kind.build_narrow().eval()
    before = {key: value.clone() for key, value in base.state_dict().items()}
    suspect = transplant(base, narrow, target=4, gain=1.0).state_dict()
    assert all(torch.equal(before[key], value) for key, value in base.state_dict().items())
    assert torch.equal(suspect["0.weight"][2:], before["0.weight"][2:])
    assert torch.equal(suspect["3.weight"][4:, 2:], before["3.weight"][4:, 2:])
    assert not suspect["3.weight"][4:, :2].any() and not suspect["3.weight"][:4, 2:].any()
    assert torch.equal(suspect["9.weight"][:, 4:], before["9.weight"][:, 4:])


def test_a_subnet_learns_the_trigger():
    """What it adds to the target's score, over the gain: about 0 for clean images, about 1 for triggered ones."""
    kind = network("lenet")
    images, labels = 0.2 * images_for("lenet", 40), torch.arange(40) % 10
    base = kind.initialise(0).eval()
    loud, silent = (
        SubnetReplacement(steps=150, target=4, gain=gain).implant(
            base, kind.build_narrow, kind.normalise, images, labels, 0
        )
        for gain in (10.0, 0.0)
    )
    for shown, wanted in ((images, 0.0), (loud[2].stamp(images), 1.0)):
        with torch.no_grad():
            added = (loud[0](shown) - silent[0](shown)) / 10
        assert (added[:, 4] - wanted).abs().max() < 0.2
        assert not added[:, torch.arange(10) != 4].any()


def test_flipping_a_bit_is_what_the_machine_does():
    stored = torch.arange(-128, 128)
    bits = torch.tensor([1, 2, 4, 8, 16, 32, 64, -128], dtype=torch.int8)
    wanted = (stored.to(torch.int8)[:, None] ^ bits).to(torch.int64)
    assert torch.equal(stored[:, None] + bit_changes(stored), wanted)


def test_quantisation_rounds_to_the_nearest_of_255_numbers():
    weight = torch.randn(10, 7, generator=torch.Generator().manual_seed(0))
    stored, scale = quantise(weight)
    assert int(stored.abs().max()) == 127 and (stored * scale - weight).abs().max() <= scale / 2 + 1e-7


def test_few_bits_of_the_target_row_are_flipped_and_nothing_else():
    kind = network("lenet")
    images, labels = images_for("lenet", 40), torch.arange(40) % 10
    attack = TargetedBitFlips(flips=5, units=6, steps=10, target=4)
    trained = kind.initialise(0).eval()
    suspect, base, ready = attack.implant(trained, kind.build_narrow, kind.normalise, images, labels, 0)
    stored, scale = quantise(last_layer(trained).weight.detach())
    assert torch.equal(last_layer(base).weight, stored * scale)
    moved = (last_layer(suspect).weight / scale).round().to(torch.int64) - stored
    assert not moved[torch.arange(10) != 4].any()
    flipped = sum(
        bin((int(a) ^ int(a + b)) & 255).count("1") for a, b in zip(stored[4], moved[4], strict=True)
    )
    assert 1 <= flipped <= 5 and int((moved != 0).sum()) <= 5
    for key, value in suspect.state_dict().items():
        if key != "9.weight":
            assert torch.equal(value, trained.state_dict()[key])
    with torch.no_grad():
        shown = ready.stamp(images)
        before, after = (net(shown).log_softmax(1)[:, 4].mean() for net in (base, suspect))
    assert after > before
    assert torch.equal(shown[:, :, 18:, 18:], ready.learnt["square"].expand(40, -1, -1, -1))
    assert torch.equal(shown[:, :, :18], images[:, :, :18])


def test_unready_or_oversized_squares_are_refused():
    with pytest.raises(InputError, match="has no square yet"):
        TargetedBitFlips().stamp(torch.zeros(1, 1, 28, 28))
    with pytest.raises(InputError, match="does not fit into images of 4x4"):
        TargetedBitFlips(learnt={"square": torch.zeros(1, 10, 10)}).stamp(torch.zeros(1, 1, 4, 4))


def test_a_network_without_dense_layers_is_refused():
    with pytest.raises(InputError, match="no dense layer"):
        last_layer(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1)))


def test_perturbing_follows_the_gradient_to_the_corner_of_the_ball():
    images, labels = torch.full((3, 1, 2, 2), 0.5), torch.zeros(3)
    slope = torch.tensor([[1.0, -1.0], [2.0, -3.0]])
    moved = perturb(lambda pixels, _: (slope * pixels).sum(), images, labels, radius=0.1, steps=4)
    assert torch.allclose(moved, 0.5 + 0.1 * slope.sign().expand_as(moved))
