"""What the account says of a purification, recomputed from the networks."""

import copy

import pytest
import torch
from torch import nn

from depurate import purify
from depurate.contamination import parse_noise
from depurate.demo.digits import read_digits
from depurate.purification.findings import describe_screening, record_search
from depurate.recovery import Guarantee, PurifyRecord
from depurate.report.summary import key_numbers
from depurate.report.verdict import judge
from depurate.triggers import AWAY, Screening


@pytest.fixture(scope="module")
def grouped():
    """A network with scales and shifts that were trained, and its digits."""
    digits = read_digits(seed=0)
    torch.manual_seed(0)
    layers = []
    for before, after in ((1, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(4, after), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(60):
        loss = nn.functional.cross_entropy(net(digits.train), digits.train_labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval().requires_grad_(False), digits


def test_scales_that_were_replaced_are_in_the_account(grouped):
    net, digits = grouped
    hit = copy.deepcopy(net)
    generator = torch.Generator().manual_seed(0)
    for place in (1, 4, 7):
        for vector in (hit[place].weight, hit[place].bias):
            mask = torch.rand(vector.shape, generator=generator) < 0.25
            vector[mask] += 8 * torch.randn(int(mask.sum()), generator=generator)
    result = purify(hit, digits.benign, method="robust")
    record, changed = result.record, {}
    for name, before in hit.named_parameters():
        changed[name] = int((result.model.get_parameter(name) != before).sum())
    scales = {name: count for name, count in changed.items() if name[0] in "147" and count}
    assert scales
    assert {guess.name: guess.hit for guess in record.guessed} == scales
    assert record.guarantee is Guarantee.APPROXIMATE
    verdict = judge(record)
    assert "Nothing was changed" not in verdict.headline
    assert any("beside these layers" in sentence for sentence in verdict.done)
    total = sum(layer.contaminated for layer in record.layers) + sum(scales.values())
    (fact,) = (fact for fact in key_numbers(record) if fact.label == "Entries taken for hit")
    assert fact.value == f"{total:,}"


def test_a_strength_does_not_keep_auto_from_looking_at_the_weights(grouped):
    net, digits = grouped
    untouched = purify(net, digits.benign, strength=0.1)
    assert all(torch.equal(p, untouched.model.get_parameter(n)) for n, p in net.named_parameters())
    hit = copy.deepcopy(net)
    hit.load_state_dict(parse_noise("sparse:rate=0.05,scale=30").apply(net.state_dict(), 0).values)
    repaired = purify(hit, digits.benign, strength=0.1).record
    assert repaired.strength == 0.1
    assert any("the weights show sparse noise" in said for said in repaired.warnings)
    assert any(layer.contaminated for layer in repaired.layers)


def test_of_many_classes_it_is_said_how_many_were_searched():
    found = Screening((3, 5, 8), (50.0, 60.0, 55.0), (), (), known=30)
    assert any("only 3 of 30 classes were searched" in said for said in describe_screening(found))
    record = PurifyRecord("auto", Guarantee.UNCHANGED, "given", 9, (), None, search=record_search(found))
    assert record.search.known == 30
    all_of_them = Screening((0, 1, 2), (50.0, 60.0, 55.0), (), (), known=3)
    assert not any("only" in said for said in describe_screening(all_of_them))


def test_classes_easy_by_nature_are_no_contradiction():
    found = Screening((0, 1, 2), (5.0, 60.0, 55.0), (), (), natural=(0,))
    said = describe_screening(found)
    assert "but for what is taken for easy by nature" in said[0]
    assert "purified self" in said[1] and "purified network" not in " ".join(said)


@pytest.mark.parametrize(
    ("found", "backdoor"),
    [
        (None, False),
        (Screening((0, 1, 2), (50.0, 60.0, 55.0), (), ()), False),
        (Screening((0, 1, 2), (5.0, 60.0, 55.0), (0,), (), evidence="patch"), True),
        (Screening((0, 1, 2), (50.0, 60.0, 55.0), (AWAY,), (), away=3.0, evidence="away"), True),
    ],
)
def test_one_word_says_whether_a_backdoor_was_found(found, backdoor):
    record = PurifyRecord("auto", Guarantee.UNCHANGED, "given", 9, (), None, search=record_search(found))
    assert record.backdoor is backdoor
