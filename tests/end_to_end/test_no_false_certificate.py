"""Cases in which kernels once counted as exact and were not: nothing may be certified that is wrong."""

import pytest
import torch
from torch import nn

from depurate import purify
from depurate.recovery import Guarantee
from depurate.recovery.exact import exact_recovery
from depurate.spans import Span


def drawn(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flips(shape, share, seed):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def certified_and_wrong(layer, purified, clean):
    """Whether any kernel is off, where all are called exact."""
    off = (purified.double() - clean.double()).norm(dim=-1) / clean.double().norm(dim=-1)
    return layer.certified == layer.kernels and bool((off > 1e-4).any())


def test_rows_that_the_span_does_not_reach_are_no_evidence():
    found = wrong = 0
    for seed in range(5):
        basis = torch.linalg.qr(drawn(60, 5, seed=seed).double())[0]
        span = Span(torch.cat([basis, torch.zeros(300, 5).double()]), torch.full((5,), 0.2).double())
        clean = (drawn(3000, 5, seed=seed + 10).double() @ span.directions.T).float()
        noise = drawn(*clean.shape, seed=seed + 20)
        suspect = torch.where(flips(clean.shape, 0.75, seed + 30), clean + noise, clean)
        fit = exact_recovery(span, suspect, torch.zeros_like(clean), 1e-5)
        off = (fit.kernels - clean).norm(dim=1) / clean.norm(dim=1)
        found, wrong = found + int(fit.certified.sum()), wrong + int((fit.certified & (off > 1e-2)).sum())
    assert found > 1000
    assert wrong == 0


class Twice(nn.Module):
    """A layer that is shown images, and then what it made of them."""

    def __init__(self, width):
        super().__init__()
        self.layer, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, 3)

    def forward(self, images):
        return self.out(torch.relu(self.layer(torch.relu(self.layer(images)))))


@pytest.mark.parametrize("method", ["exact", "auto"])
def test_a_layer_used_twice_is_not_certified_by_what_its_own_damage_made(method):
    width, count = 120, 10
    images = torch.rand(count, width, generator=torch.Generator().manual_seed(0)).double()
    anchor = drawn(width, width, seed=1).double() / width**0.5
    first, second = (drawn(width, count, seed=seed).double() * 0.02 / width**0.5 for seed in (2, 3))
    clean = anchor
    for _ in range(200):  # an update that lies in the span of what the clean layer is shown
        clean = anchor + first @ images + second @ torch.relu(images @ clean.T)
    net = Twice(width).double().eval()
    hit = clean.clone()
    for kernel in (3, 50):
        hit[kernel, :12] += drawn(12, seed=kernel).double()
    with torch.no_grad():
        net.layer.weight.copy_(hit)
    start = {**net.state_dict(), "layer.weight": anchor}
    layer = purify(net, images, anchor=start, method=method).layers[0]
    assert layer.certified == 0
    assert layer.guarantee is not Guarantee.EXACT


def test_a_direction_that_few_images_bring_is_part_of_the_span():
    count, width = 1500, 200
    basis = torch.rand(20, width, generator=torch.Generator().manual_seed(0))
    basis[:, 7] = 0
    images = torch.rand(count, 20, generator=torch.Generator().manual_seed(1)) @ basis
    images[:3, 7] = 0.5 * images.max()  # lit in three pictures, and lost in products of single precision
    net = nn.Sequential(nn.Linear(width, 60, bias=False), nn.ReLU(), nn.Linear(60, 3)).eval()
    anchor = {key: value.clone() for key, value in net.state_dict().items()}
    step = drawn(60, count, seed=2).double() @ images.double()
    step *= 0.5 * anchor["0.weight"].double().norm(dim=1, keepdim=True) / step.norm(dim=1, keepdim=True)
    clean = (anchor["0.weight"].double() + step).float()
    for share in (0.0, 0.05):
        hit = torch.where(flips(clean.shape, share, 3), clean + 0.3 * drawn(*clean.shape, seed=4), clean)
        with torch.no_grad():
            net[0].weight.copy_(hit)
        result = purify(net, images, anchor=anchor, max_images=count)
        purified = result.model[0].weight.detach()
        assert not certified_and_wrong(result.layers[0], purified, clean)
        if share == 0:
            assert torch.equal(purified, clean)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_patch_that_a_sample_misses_is_part_of_the_span(seed):
    basis = torch.rand(8, 64, generator=torch.Generator().manual_seed(0)).double()
    basis[:, 7] = 0
    patches = torch.rand(800 * 64, 8, generator=torch.Generator().manual_seed(seed)).double() @ basis
    patches[12_345 * seed % len(patches), 7] = patches.max()
    images = patches.reshape(800, 8, 8, 8, 8).permute(0, 1, 3, 2, 4).reshape(800, 1, 64, 64)
    net = nn.Sequential(
        nn.Conv2d(1, 40, 8, stride=8, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(40 * 64, 3)
    )
    net = net.double().eval()
    anchor = {key: value.clone() for key, value in net.state_dict().items()}
    directions = torch.cat([basis, torch.eye(64)[7:8].double()])
    clean = anchor["0.weight"].flatten(1) + 0.05 * drawn(40, 9, seed=5).double() @ directions
    hit = torch.where(flips(clean.shape, 0.05, 6), clean + drawn(*clean.shape, seed=7).double(), clean)
    with torch.no_grad():
        net[0].weight.copy_(hit.view_as(net[0].weight))
    result = purify(net, images, anchor=anchor, method="exact", max_images=800)
    layer = result.layers[0]
    assert (layer.patches, layer.rank) == (800 * 64, 9)
    assert not certified_and_wrong(layer, result.model[0].weight.detach().flatten(1), clean)


def learnt_behind(normalisation, width=200, kernels=40, count=60, seed=0):
    """A layer whose update lies in the span of what a normalisation makes of images: network, anchor, images."""
    images = drawn(count, width, seed=seed)
    torch.manual_seed(seed)
    net = nn.Sequential(
        normalisation, nn.Linear(width, kernels, bias=False), nn.ReLU(), nn.Linear(kernels, 3)
    )
    net = net.eval().requires_grad_(False)
    anchor = {key: value.clone() for key, value in net.state_dict().items()}
    step = drawn(kernels, count, seed=seed + 1).double() @ net[0](images).double()
    net[1].weight += (0.05 / width**0.5 * step).float()
    return net, anchor, images


def hit_weights(net, share, seed):
    clean, mask = net[1].weight.clone(), flips(net[1].weight.shape, share, seed)
    net[1].weight[mask] += clean.std() * 20 * drawn(int(mask.sum()), seed=seed + 1)
    return clean


@pytest.mark.parametrize("method", ["exact", "auto"])
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("trained", [True, False])
def test_nothing_is_certified_behind_scales_that_were_hit(method, seed, trained):
    normalisation = nn.LayerNorm(200)
    with torch.no_grad():
        normalisation.weight += 0.1 * drawn(200, seed=seed)
        normalisation.bias += 0.1 * drawn(200, seed=seed + 9)
    net, anchor, images = learnt_behind(normalisation, count=12, seed=seed)
    if trained:
        anchor = {**anchor, "0.weight": torch.ones(200), "0.bias": torch.zeros(200)}
    hit_weights(net, 0.1, seed + 2)
    sound = purify(net, images, anchor=anchor, method=method)
    assert sound.record.guarantee is Guarantee.EXACT
    mask = flips((200,), 0.1, seed + 4)
    net[0].weight[mask] += 3 * drawn(int(mask.sum()), seed=seed + 5)
    result = purify(net, images, anchor=anchor, method=method)
    assert all(layer.certified == 0 for layer in result.layers)
    assert result.record.guarantee is Guarantee.APPROXIMATE
    replaced = (result.model[0].weight != net[0].weight).sum()
    assert sum(guess.hit for guess in result.record.guessed if guess.name == "0.weight") == replaced
    assert bool(replaced) == (method == "auto")


@pytest.mark.parametrize(("hit", "mended"), [(1, False), (12, True)])
def test_nothing_is_certified_behind_statistics_that_the_images_contradict(hit, mended):
    net, anchor, images = learnt_behind(nn.BatchNorm1d(200, affine=False))
    clean, mask = net[1].weight.clone(), flips((40, 200), 0.05, 2)
    net[1].weight[mask] += 0.5 * clean.std() * drawn(int(mask.sum()), seed=3)
    sound = purify(net, images, anchor=anchor)
    assert not certified_and_wrong(sound.layers[1], sound.model[1].weight, clean)
    assert sound.layers[1].certified == 40
    net[0].running_mean[:hit] += 5
    result = purify(net, images, anchor=anchor)
    assert all(layer.certified == 0 for layer in result.layers)
    assert (result.layers[0].method == "statistics") == mended
    assert mended or any(
        "nothing is certified in the layers behind" in said for said in result.record.warnings
    )
    if mended:
        received, now = (torch.stack([m[0].running_mean, m[0].running_var]) for m in (net, result.model))
        moved = float((now - received).norm() / received.norm())
        assert result.layers[0].moved == pytest.approx(moved)
