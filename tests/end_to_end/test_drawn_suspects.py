"""Every network and trigger that the benchmark of drawn suspects may draw works, and the same number draws the same."""

from pathlib import Path
from random import Random

import pytest
import torch

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def benchmarks_on_path(monkeypatch):
    if not _BENCHMARKS.exists():
        pytest.skip("the benchmarks do not come with the package")
    monkeypatch.syspath_prepend(str(_BENCHMARKS))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_drawn_networks_classify(shape):
    from drawn_networks import draw_network

    said = set()
    for number in range(30):
        torch.manual_seed(0)
        model, words = draw_network(Random(number), torch.zeros(1, *shape))
        assert model.eval()(torch.rand(2, *shape)).shape == (2, 10)
        assert draw_network(Random(number), torch.zeros(1, *shape))[1] == words
        said.add(words.split(",")[0])
    assert said >= {"plain", "residual", "dense", "separable"}


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_drawn_triggers_change_images_within_their_range(shape):
    from drawn_triggers import draw_trigger

    pool = torch.rand(20, *shape, generator=torch.Generator().manual_seed(0))
    for number in range(60):
        stamp, words = draw_trigger(Random(number), pool)
        shown = stamp(pool.clone())
        assert shown.shape == pool.shape, words
        assert -1e-5 <= float(shown.min()) <= float(shown.max()) <= 1 + 1e-5, words
        assert not torch.equal(shown, pool), words
        assert torch.equal(draw_trigger(Random(number), pool)[0](pool.clone()), shown), words
