"""Every attack on data by its own definition: what the trigger is, which share is poisoned, which labels change."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from depurate import InputError
from depurate.contamination.attacks import (
    AllToAll,
    Blended,
    LabelConsistent,
    LowFrequency,
    NaturalPatch,
    Sig,
    Trojan,
    WaNet,
    attack_tensors,
    with_tensors,
)
from depurate.zoo import network


def a_set(count=200, channels=1, size=28, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, size, size, generator=generator)
    return images, torch.arange(count) % 10


def changed(before, after):
    return (before != after).flatten(1).any(1)


DIRTY = [
    Blended(target=3),
    WaNet(strength=2, target=3),
    NaturalPatch(target=3).prepare(*a_set(), 0),
    LowFrequency(target=3).prepare(*a_set(), 0),
    Trojan(target=3, learnt={"picture": torch.full((1, 28, 28), 2.0)}),
]


@pytest.mark.parametrize("attack", DIRTY, ids=lambda attack: type(attack).__name__)
@pytest.mark.parametrize("fraction", [0.0, 0.05, 1.0])
def test_dirty_labels_go_with_triggers(attack, fraction):
    images, labels = a_set()
    before = images.clone()
    poisoned, relabelled = attack.poison(images, labels, fraction, seed=4)
    assert torch.equal(images, before) and labels.tolist() == [i % 10 for i in range(200)]
    stamped = attack.stamp(images)
    hit = (poisoned == stamped).flatten(1).all(1) & changed(images, stamped)
    assert int(hit.sum()) == round(200 * fraction)
    assert (relabelled[hit] == 3).all() and torch.equal(relabelled[~hit], labels[~hit])
    again = attack.poison(images, labels, fraction, seed=4)
    assert torch.equal(poisoned, again[0]) and torch.equal(relabelled, again[1])
    assert attack.wanted(labels).tolist() == [3] * 200


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.1, 0.5])
def test_clean_label_attacks_change_no_label_and_only_their_class(fraction):
    images, labels = a_set()
    net = network("lenet").initialise(0)
    harsh = LabelConsistent(target=3, steps=2).prepare_with(net, net, images, labels, 0)
    for attack in (Sig(target=3), harsh):
        poisoned, kept = attack.poison(images, labels, fraction, seed=0)
        hit = changed(images, poisoned)
        assert torch.equal(kept, labels)
        assert int(hit.sum()) == min(round(200 * fraction), 20)
        assert (labels[hit] == 3).all()


def test_blended_is_a_convex_combination_with_one_uniform_picture():
    images, _ = a_set()
    attack = Blended(alpha=0.2, picture=5)
    picture = (attack.stamp(images) - 0.8 * images) / 0.2
    assert torch.allclose(picture, picture[:1].expand_as(picture), atol=1e-5)
    assert picture.min() + 1e-5 >= 0 and picture.max() <= 1 + 1e-5
    assert abs(float(picture[0].mean()) - 0.5) < 0.05
    assert not torch.equal(Blended(picture=6).stamp(images), Blended(picture=5).stamp(images))


@given(frequency=st.integers(1, 13), amplitude=st.floats(0.01, 0.4))
@settings(max_examples=20)
def test_sig_is_one_sinusoid_along_the_columns(frequency, amplitude):
    grey = torch.full((1, 2, 28, 28), 0.5)
    wave = Sig(amplitude, amplitude, frequency).stamp(grey)[0] - 0.5
    assert torch.equal(wave, wave[:1, :1].expand_as(wave))
    power = torch.fft.rfft(wave[0, 0].double()).abs()
    assert int(power.argmax()) == frequency
    assert math.isclose(float(power[frequency]), 14 * amplitude, rel_tol=1e-4)
    assert float(power.sum() - power[frequency]) < 1e-4


def test_sig_trains_and_strikes_with_amplitudes_of_their_own():
    grey, labels = torch.full((10, 1, 8, 8), 0.5), torch.zeros(10).long()
    attack = Sig(amplitude=0.3, train=0.1, frequency=2)
    poisoned, _ = attack.poison(grey, labels, 1.0, 0)
    assert torch.isclose((poisoned - 0.5).abs().max(), torch.tensor(0.1))
    assert torch.isclose((attack.stamp(grey) - 0.5).abs().max(), torch.tensor(0.3))


def test_the_warping_field_is_scaled_as_published():
    """The mean of |grid| is 1, so that a coarse field alone moves points by s/2 pixels on average."""
    attack = WaNet(grid=28, strength=3.0)
    assert math.isclose(float(attack.displacement(28, 28).abs().mean()), 1.5, rel_tol=1e-5)
    smooth = WaNet(grid=4, strength=3.0).displacement(28, 28)
    assert 0.7 < float(smooth.abs().mean()) < 2.3
    assert float((smooth[1:] - smooth[:-1]).abs().max()) < 1.0
    assert torch.allclose(WaNet(strength=6.0).displacement(28, 28), 2 * smooth)


def test_warping_samples_the_image_where_the_field_points():
    images, _ = a_set(2)
    attack = WaNet(strength=3.0)
    moved = attack.displacement(28, 28).double().numpy()
    rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    # Coordinates from -1 to 1 span 27 steps between pixel centres, but the field is a share of 28 pixels.
    at = [
        (rows.numpy() + moved[..., 1] * 27 / 28).clip(0, 27),
        (columns.numpy() + moved[..., 0] * 27 / 28).clip(0, 27),
    ]
    wanted = map_coordinates(images[0, 0].double().numpy(), at, order=1)
    assert torch.allclose(attack.stamp(images)[0, 0].double(), torch.from_numpy(wanted), atol=1e-4)


def test_the_noise_mode_bends_twice_as_many_others_and_leaves_their_labels():
    images, labels = a_set()
    poisoned, relabelled = WaNet(strength=2, target=3, noise=2.0).poison(images, labels, 0.1, seed=0)
    bent = changed(images, poisoned)
    assert int(bent.sum()) == 20 + 40
    trigger = (poisoned == WaNet(strength=2).stamp(images)).flatten(1).all(1)
    assert int(trigger.sum()) == 20 and (relabelled[trigger] == 3).all()
    decoys = bent & ~trigger
    assert torch.equal(relabelled[decoys], labels[decoys])
    assert not changed(images, WaNet(noise=0.0).poison(images, labels, 0.0, 0)[0]).any()


def test_all_to_all_moves_every_class_on_by_one():
    images, labels = a_set()
    poisoned, relabelled = AllToAll().poison(images, labels, 0.1, seed=0)
    hit = changed(images, poisoned)
    assert int(hit.sum()) == 20
    assert torch.equal(relabelled[hit], (labels[hit] + 1) % 10)
    assert torch.equal(relabelled[~hit], labels[~hit])


def test_label_consistent_noise_is_bounded_and_hides_the_class():
    images, labels = a_set()
    net = network("lenet").initialise(0)
    attack = LabelConsistent(radius=0.1, steps=5, size=3, target=3).prepare_with(net, net, images, labels, 0)
    poisoned, _ = attack.poison(images, labels, 0.1, seed=0)
    hit = changed(images, poisoned)
    inner = slice(3, 25)
    assert (poisoned - images)[hit][:, :, inner, inner].abs().max() <= 0.1 + 1e-6
    for rows in (slice(0, 3), slice(25, 28)):
        for columns in (slice(0, 3), slice(25, 28)):
            assert (poisoned[hit][:, :, rows, columns] == 1).all()
    with torch.no_grad():
        before, after = (net(batch[hit]).log_softmax(1)[:, 3].mean() for batch in (images, poisoned))
    assert after < before
    with pytest.raises(InputError, match="needs a clean network"):
        LabelConsistent().poison(images, labels, 0.1, 0)


def test_natural_patches_are_cut_from_the_images():
    images, labels = a_set(50)
    attack = NaturalPatch(size=4, row=10, column=3, target=0).prepare(images, labels, 7)
    square = attack.learnt["square"]
    windows = images.unfold(2, 4, 1).unfold(3, 4, 1).permute(0, 2, 3, 1, 4, 5)
    found = (windows == square).flatten(3).all(3).flatten(1).any(1)
    assert found.any() and (labels[found] != 0).all()
    stamped = attack.stamp(images)
    assert torch.equal(stamped[:, :, 10:14, 3:7], square.expand(50, -1, -1, -1))
    stamped[:, :, 10:14, 3:7] = images[:, :, 10:14, 3:7]
    assert torch.equal(stamped, images)
    with pytest.raises(InputError, match="does not lie within"):
        NaturalPatch(row=25, learnt={"square": square}).stamp(images)


def test_low_frequency_triggers_lie_in_the_leading_components():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(64, 3, generator=generator)).Q
    spread = torch.randn(300, 3, generator=generator) * torch.tensor([3.0, 2.0, 1.0])
    images = (0.5 + 0.02 * spread @ basis.mT).reshape(300, 1, 8, 8)
    attack = LowFrequency(components=2, amplitude=0.2).prepare(images, torch.arange(300) % 10, 0)
    added = (attack.stamp(images) - images)[0].flatten()
    _, _, right = torch.linalg.svd((images - images.mean(0)).flatten(1), full_matrices=False)
    assert torch.linalg.norm(added - right[:2].mT @ (right[:2] @ added)) < 1e-3 * added.norm()
    assert math.isclose(float(added.abs().max()), 0.2, rel_tol=1e-3)


@pytest.mark.parametrize("shape", ["square", "watermark"])
def test_trojan_pictures_excite_the_unit_that_adds_most_to_the_target(shape):
    images, labels = a_set(40)
    net = network("lenet").initialise(0).eval()
    attack = Trojan(shape=shape, target=2, steps=20).prepare_with(net, net, images, labels, 0)
    with torch.no_grad():
        unit = int((net[9].weight[2] * net[:9](images).mean(0)).argmax())
    random = with_tensors(
        attack, {"picture": torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1))}
    )
    with torch.no_grad():
        excited, plain = (net[:9](one.stamp(images))[:, unit].mean() for one in (attack, random))
    assert excited > plain
    outside = attack.mask(28, 28) == 0
    assert torch.equal(attack.stamp(images)[..., outside], images[..., outside])
    assert attack_tensors(attack)["picture"].shape == (1, 28, 28)


def test_see_through_watermarks_let_the_image_shine_through():
    images, _ = a_set(3)
    attack = Trojan(shape="watermark", alpha=0.25, learnt={"picture": torch.ones(1, 28, 28)})
    inside = attack.mask(28, 28) == 1
    assert torch.allclose(attack.stamp(images)[..., inside], 0.75 * images[..., inside] + 0.25)


@pytest.mark.parametrize("attack", [NaturalPatch(), LowFrequency(), Trojan()])
def test_triggers_not_made_yet_are_refused(attack):
    with pytest.raises(InputError, match="has no"):
        attack.stamp(torch.zeros(1, 1, 28, 28))
    assert attack_tensors(attack) == {}
