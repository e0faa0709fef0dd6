"""Sparse noise is told by numbers, and by what a repair wins back; what may be noise does not hide a backdoor."""

import copy
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import nn

from depurate import purify
from depurate.contamination import parse_noise
from depurate.demo import rates, read_digits, train_backdoored
from depurate.purification.noise import SparseNoise, Verdict, look_for_noise
from depurate.recovery import FirstLook, Recipe

IMAGES = torch.eye(4).repeat(20, 1)
RECIPE = Recipe("auto", None, repair=True)


def telling(sharpness):
    """A network that tells four kinds of images apart, the surer the sharper; none gives no numbers."""
    net = nn.Linear(4, 4, bias=False).requires_grad_(False)
    net.weight.copy_((float("nan") if sharpness is None else sharpness) * torch.eye(4))
    return net


@dataclass(frozen=True)
class Images:
    held_back: bool = True
    images: torch.Tensor = IMAGES

    def some(self, numbers):
        return [IMAGES]


@dataclass(frozen=True)
class Walks:
    """Stands for a run: knows what a repair of sparse noise and what anything else would end with."""

    share: float
    suspect: nn.Module
    mended: nn.Module
    repaired: nn.Module
    benign: Images = field(default_factory=Images)
    far: float = 0.0

    def sparse_noise(self):
        return FirstLook(self.share, self.far)

    def reference(self, recipe, what, numbers):
        return self.repaired if recipe.sparse else self.mended


@pytest.mark.parametrize(
    ("share", "received", "mended", "repaired", "damaged", "verdict"),
    [
        (0.1, 9.0, 9.0, 9.0, False, Verdict.SURE),  # plain to see
        (0.001, 9.0, 1.0, 1.0, False, Verdict.NONE),  # healthy: nothing is tried
        (0.001, 0.5, 0.5, 6.0, False, Verdict.SURE),  # as large as the weights
        (0.001, 0.5, 6.0, 6.0, False, Verdict.NONE),  # its statistics alone were wrong, or the images are
        (0.001, 0.5, 0.5, 2.0, False, Verdict.NONE),  # told apart better, but badly: images of one class, say
        (0.01, 4.0, 4.0, 8.0, False, Verdict.SURE),
        (0.01, 9.0, 9.0, 9.0, False, Verdict.POSSIBLE),  # tails or noise: nothing depends on it
        (0.001, None, 9.0, 9.0, True, Verdict.NONE),  # what is certainly damaged is all there is
        (0.001, None, 1.0, 6.0, True, Verdict.SURE),
        (0.001, None, None, 6.0, True, Verdict.SURE),
        (0.01, None, 9.0, 9.0, True, Verdict.POSSIBLE),
        (0.01, 9.0, 9.0, None, False, Verdict.NONE),  # the repair broke it
        (0.01, 9.0, 9.0, 8.0, False, Verdict.NONE),  # a little, with all answers as they were
    ],
)
def test_the_verdict(share, received, mended, repaired, damaged, verdict):
    run = Walks(share, telling(received), telling(mended), telling(repaired))
    found = look_for_noise(run, replace(RECIPE, damaged=damaged))
    assert found.verdict is verdict
    assert found.share == share
    assert (found.told is not None) == (verdict is Verdict.SURE and share < 0.03)


def test_entries_that_are_far_out_are_noise_however_few_they_are():
    run = Walks(0.001, telling(9.0), telling(9.0), telling(9.0), far=0.002)
    found = look_for_noise(run, RECIPE)
    assert (found.verdict, found.share, found.told) == (Verdict.SURE, 0.002, None)


@pytest.mark.parametrize(("offered", "method"), [(1, "auto"), (2, "soft")])
def test_of_some_of_the_images_nothing_exact_is_asked(offered, method):
    asked = []

    class Asked(Walks):
        def reference(self, recipe, what, numbers):
            asked.append(recipe.method)
            return super().reference(recipe, what, numbers)

    images = Images(images=IMAGES.repeat(offered, 1))
    run = Asked(0.001, telling(0.5), telling(0.5), telling(6.0), images)
    assert look_for_noise(run, RECIPE).verdict is Verdict.SURE
    assert asked == [method, method]


def test_a_repair_that_changes_many_answers_is_no_sign():
    other = telling(9.0)
    other.weight.copy_(other.weight.roll(1, 0))
    run = Walks(0.01, telling(9.0), telling(9.0), other)
    assert look_for_noise(run, RECIPE).verdict is Verdict.NONE


@pytest.mark.parametrize(
    ("share", "damaged", "verdict"), [(0.01, True, "SURE"), (0.01, False, "NONE"), (0.1, False, "SURE")]
)
def test_with_few_images_numbers_have_to_do(share, damaged, verdict):
    run = Walks(share, telling(9.0), telling(9.0), telling(9.0), Images(held_back=False))
    assert look_for_noise(run, replace(RECIPE, damaged=damaged)).verdict is Verdict[verdict]


def normalised():
    """Blocks of convolution and BatchNorm, trained to tell eight directions of stripes from each other."""
    torch.manual_seed(0)
    layers = []
    for before, after in ((1, 16), (16, 16), (16, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 8))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for turn in range(150):
        images, labels = stripes(64, turn)
        loss = nn.functional.cross_entropy(net(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def stripes(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 8, (count,), generator=generator)
    at = torch.arange(12.0)
    angles = labels * torch.pi / 8
    along = angles.cos()[:, None, None] * at[:, None] + angles.sin()[:, None, None] * at
    phase = 6.28 * torch.rand(count, 1, 1, generator=generator)
    images = torch.sin(1.2 * along + phase) + 0.8 * torch.randn(count, 12, 12, generator=generator)
    return images[:, None], labels


def hit_convolutions(clean, noise):
    """The network with noise in its convolutions alone."""
    suspect = copy.deepcopy(clean)
    hit = parse_noise(noise).apply(clean.state_dict(), 0).values
    suspect.load_state_dict(
        {name: hit[name] if value.ndim == 4 else value for name, value in clean.state_dict().items()}
    )
    return suspect


def accuracy(net):
    images, labels = stripes(1000, 10_001)
    with torch.no_grad():
        return float((net(images).argmax(1) == labels).float().mean())


def test_images_of_one_class_do_not_make_a_healthy_network_seem_noisy():
    digits = read_digits(0)
    suspect = train_backdoored(digits, seed=0).suspect
    with torch.no_grad():
        ones = digits.benign[suspect(digits.benign).argmax(1) == 1].repeat(3, 1, 1, 1)
    result = purify(suspect, ones)
    assert not any("show sparse noise" in warning for warning in result.record.warnings)


@pytest.fixture
def may_be_noise(monkeypatch):
    """Let weights seem to have tails that may be noise."""
    found = SparseNoise(Verdict.POSSIBLE, 0.01)
    monkeypatch.setattr("depurate.purification.plan.look_for_noise", lambda *_: found)


def test_what_may_be_noise_does_not_hide_a_backdoor(may_be_noise):
    digits = read_digits(0)
    network = train_backdoored(digits, seed=0)
    result = purify(network.suspect, digits.benign)
    assert result.record.search.flagged
    assert rates(result.model, digits).attack_success < 0.1
    assert any("they were left" in warning for warning in result.record.warnings)


def test_what_may_be_noise_is_repaired_where_no_trigger_is_found(may_be_noise):
    suspect = normalised()
    result = purify(suspect, stripes(300, 10_000)[0])
    assert result.record.search is not None
    assert not result.record.search.flagged
    assert any("they were replaced" in warning for warning in result.record.warnings)
    assert accuracy(result.model) > accuracy(suspect) - 0.03


def test_where_nothing_can_be_searched_that_is_said_once_and_no_more(may_be_noise):
    net = telling(9.0)
    images = IMAGES + 0.01 * torch.randn(IMAGES.shape, generator=torch.Generator().manual_seed(0))
    said = purify(net, images).record.warnings
    assert len(said) == len(set(said))
    assert any("as no triggers could be searched for, they were replaced" in warning for warning in said)


@pytest.mark.parametrize(
    "noise",
    ["sparse:rate=0.1,law=gaussian,scale=3", "sparse:rate=0.1,law=gaussian,scale=10", "signflip:rate=0.05"],
)
def test_noise_is_seen_and_undone_in_a_network_with_batchnorm(noise):
    clean = normalised()
    suspect = copy.deepcopy(clean)
    suspect.load_state_dict(parse_noise(noise).apply(clean.state_dict(), 0).values)
    before = {name: value.clone() for name, value in suspect.state_dict().items()}
    result = purify(suspect, stripes(300, 10_000)[0])
    assert accuracy(suspect) < 0.6 < accuracy(clean) - 0.3
    assert accuracy(result.model) > 0.8 * accuracy(clean)
    assert any("show sparse noise" in warning for warning in result.record.warnings)
    assert all(
        torch.equal(value, before[name]) or value.isnan().any()
        for name, value in suspect.state_dict().items()
    )


@dataclass(frozen=True)
class Shown(Images):
    def some(self, numbers):
        return [self.images]


def test_normalisations_that_do_not_meet_what_they_kept_let_a_repair_be_tried():
    clean, images = normalised(), stripes(300, 10_000)[0]
    hit = hit_convolutions(clean, "sparse:rate=0.3,law=gaussian,scale=1")
    told = {}
    for name, suspect, seen, repaired in (
        ("hit", hit, images, clean),
        ("kept while training went on", hit, images, hit),  # no repair wins anything back
        ("healthy", clean, images, hit),
        ("of other colours", clean, 0.5 * images - 1, hit),
    ):
        run = Walks(0.001, suspect, suspect, repaired, Shown(images=seen))
        told[name] = look_for_noise(run, RECIPE)
    assert {name: found.verdict.name for name, found in told.items()} == {
        "hit": "SURE",
        "kept while training went on": "NONE",
        "healthy": "NONE",
        "of other colours": "NONE",
    }
    assert told["hit"].strained
    assert told["hit"].told[0] < told["hit"].told[1]


@pytest.mark.parametrize("noise", ["sparse:rate=0.3,law=gaussian,scale=1", "signflip:rate=0.05"])
def test_noise_no_larger_than_the_weights_of_convolutions_is_seen_by_normalisations(noise):
    clean, images = normalised(), stripes(300, 10_000)[0]
    suspect = hit_convolutions(clean, noise)
    result = purify(suspect, images)
    (told,) = [warning for warning in result.record.warnings if "far from what they kept" in warning]
    assert "most of it may be left" in told
    assert accuracy(suspect) < 0.98 < accuracy(result.model)


def test_a_healthy_network_with_normalisations_comes_back_bit_for_bit():
    clean = normalised()
    result = purify(clean, stripes(300, 10_000)[0])
    pairs = zip(clean.state_dict().values(), result.model.state_dict().values(), strict=True)
    assert all(torch.equal(before, after) for before, after in pairs)
