"""Output weights that were tampered with: only their rows are touched, and their trigger stops working."""

import pytest
import torch
from torch import nn

from depurate import purify
from depurate.purification import teaching
from depurate.triggers import Patch, success


def pictures(n=300):
    """Four classes by which quarter is bright."""
    images = 0.3 * torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for place in range(n):
        row, column = divmod(place % 4, 2)
        images[place, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 0.5
    return images


def classifier():
    """Two dense layers that tell the classes apart; a dozen hidden units hear one corner pixel."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 4))
    images = pictures()
    labels = torch.arange(len(images)) % 4
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(30):
        adam.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        adam.step()
    with torch.no_grad():
        net[1].weight[84:, 56] = 0.6
        net[1].bias[84:] -= 0.3
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tampered():
    net = classifier()
    net[3].weight[2, 84:] += 1.0
    return net


def trigger():
    mask = torch.zeros(1, 8, 8)
    mask[0, 7, 0] = 1
    return Patch(2, mask, torch.full((1, 8, 8), 3.0))


def test_only_the_rows_that_stand_out_are_recovered(tampered):
    images = pictures()
    assert success(tampered, images, [trigger()])[0] > 0.9
    result = purify(tampered, images)
    assert result.record.search.evidence == "output weights"
    assert result.record.search.flagged == (2,)
    assert any(said.startswith("3: 18 output weights") for said in result.record.warnings)
    purified = result.model
    assert torch.equal(purified[1].weight, tampered[1].weight)
    assert torch.equal(purified[3].weight[[0, 1, 3]], tampered[3].weight[[0, 1, 3]])
    assert success(purified, images, [trigger()])[0] < 0.1
    agreed = (purified(images).argmax(1) == classifier()(images).argmax(1)).double().mean()
    assert agreed > 0.95


def test_where_that_changes_too_much_the_whole_network_is_recovered(tampered, monkeypatch):
    monkeypatch.setattr(teaching, "_LOSS_IN_ROWS", -1.0)
    result = purify(tampered, pictures())
    assert result.record.search.evidence == "output weights"
    assert not any("output weights of the classes flagged lay" in said for said in result.record.warnings)
    assert not torch.equal(result.model[1].weight, tampered[1].weight)


def test_an_untouched_network_has_none():
    assert purify(classifier(), pictures()).record.search.evidence != "output weights"
