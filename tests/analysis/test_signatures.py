"""Each failure signature is triggered by its cause and silent on good ground."""

import torch
from torch import nn

from depurate.analysis import logits, same_anchor, thin_ground, unlike_training, unrelated_anchor
from depurate.recovery import Guarantee, LayerRecord
from depurate.spans import find_sites


def normed():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8, momentum=None), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4)
    )
    images = torch.randn(200, 1, 6, 6)
    net(images)
    with torch.no_grad():
        net[4].weight.mul_(50)
    return net.eval(), images


def signs(net, images):
    return unlike_training(net, find_sites(net, images[:2]), [images], logits(net, [images]))


def test_images_like_the_training_data_raise_nothing():
    assert signs(*normed()) == ()


def test_images_on_another_scale_are_noticed():
    net, images = normed()
    (said,) = signs(net, 3 * images + 5)
    assert "channel means at 1 are off by" in said


def test_an_unsure_suspect_is_noticed():
    net, images = normed()
    with torch.no_grad():
        net[4].weight.div_(1e4)
    unsure, same = signs(net, images)  # what is left are its biases
    assert "unsure" in unsure
    assert "100% of the benign images the same answer" in same


def trained(seed=0):
    torch.manual_seed(seed)
    anchor = nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 10))
    suspect = nn.Sequential(nn.Linear(40, 50), nn.ReLU(), nn.Linear(50, 10))
    suspect.load_state_dict({k: 0.5 * v + 0.1 * torch.randn_like(v) for k, v in anchor.state_dict().items()})
    return suspect, anchor.state_dict(), find_sites(suspect, torch.randn(2, 40))


def test_the_anchor_that_training_started_from_raises_nothing():
    assert unrelated_anchor(*trained()) == ()
    suspect, _, sites = trained()
    assert unrelated_anchor(suspect, {}, sites) == ()


def test_an_anchor_that_is_the_suspect_itself_is_noticed():
    suspect, anchor, sites = trained()
    own = suspect.state_dict()
    assert same_anchor(suspect, {}, sites) == same_anchor(suspect, anchor, sites) == ()
    assert same_anchor(suspect, {**own, "0.weight": anchor["0.weight"]}, sites) == ()
    for given in (own, {"0.weight": own["0.weight"]}):
        (said,) = same_anchor(suspect, given, sites)
        assert said.startswith("the anchor equals the suspect")


def test_a_strangers_anchor_is_noticed_every_time():
    suspect, _, sites = trained()
    for seed in range(1, 30):
        (said,) = unrelated_anchor(suspect, trained(seed)[1], sites)
        assert "unrelated" in said


def test_hits_do_not_make_a_good_anchor_look_unrelated():
    for value in (1e38, float("nan"), 100.0):
        suspect, anchor, sites = trained()
        with torch.no_grad():
            for layer in (suspect[0], suspect[2]):
                layer.weight[torch.rand_like(layer.weight) < 0.1] = value
        assert unrelated_anchor(suspect, anchor, sites) == ()


def test_thin_ground_names_the_worst_layer():
    def layer(name, patches, fan_in, method="soft"):
        return LayerRecord(
            name,
            "Linear",
            fan_in,
            1,
            patches,
            1,
            method,
            None,
            0,
            0,
            0,
            None,
            None,
            0.0,
            None,
            Guarantee.NONE,
        )

    assert thin_ground([layer("a", 100, 100), layer("b", 5, 10, "none")]) == ()
    assert thin_ground([layer("a", 1500, 2000), layer("b", 9, 10)]) == (
        "2 layers saw fewer benign patches than directions (worst: a, 1,500 for 2,000); more images would help",
    )
