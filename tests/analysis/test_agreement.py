"""Agreement against scipy's Wilson interval and direct counting; scores in every form networks return them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import nn

from depurate import InputError
from depurate.analysis import compare, logits


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_the_interval_is_wilsons(case):
    n, same = case
    suspect = torch.tensor([[1.0, 0.0]]).expand(n, 2)
    purified = torch.where(torch.arange(n)[:, None] < same, suspect, suspect.flip(1))
    found = compare(suspect, purified)
    interval = binomtest(same, n).proportion_ci(0.95, method="wilson")
    assert found.images == n
    assert found.agreement == pytest.approx(same / n)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_the_expected_loss_is_the_suspects_own_belief():
    suspect, purified = torch.randn(2, 50, 4).double()
    belief = suspect.softmax(1)
    losses = [belief[i].max() - belief[i, purified[i].argmax()] for i in range(50)]
    found = compare(suspect, purified)
    assert found.expected_loss == pytest.approx(float(sum(losses)) / 50)
    assert found.expected_loss >= 0
    assert compare(suspect, 3 * suspect + 1).expected_loss == 0


class Answering(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda x: x,
        lambda x: (x, x.flip(1)),
        lambda x: [x, None],
        lambda x: {"loss": 0, "logits": x},
        lambda x: {"aux": x.flip(1), "out": x},
        lambda x: {"logits": (x, x.flip(1))},
        lambda x: x.half(),
    ],
)
def test_scores_are_found_in_what_networks_return(wrap):
    x = torch.randn(5, 3).half().float()
    found = logits(Answering(wrap), [x[:2], x[2:]])
    assert found.dtype == torch.float64
    assert torch.equal(found, x.double())


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (lambda x: {"features": x}, "a dict with 'features'; expected class scores under"),
        (lambda x: "cat", "str; expected a tensor"),
        (lambda x: (), "tuple; expected a tensor"),
        (lambda x: x[:, :1], r"\(1,\) an image"),
        (lambda x: x[:, :, None, None], r"\(3, 1, 1\) an image"),
    ],
)
def test_what_is_no_class_score_is_an_input_error(wrap, message):
    with pytest.raises(InputError, match=message):
        logits(Answering(wrap), [torch.randn(5, 3)])


@pytest.mark.parametrize("images", [1, 10, 49, 50, 100, 331, 400])
def test_the_interval_ends_where_the_range_does_at_full_agreement_and_at_none(images):
    scores = torch.eye(2)[[0] * images].double()
    assert compare(scores, scores).high == 1.0 == compare(scores, scores).agreement
    assert compare(scores, scores.flip(1)).low == 0.0
