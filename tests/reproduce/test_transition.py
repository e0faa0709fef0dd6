"""Breaks found by a few solves are the breaks of the whole grid."""

import pytest
import torch

from depurate.paper import undo
from depurate.reproduce.synthetic.noise import LAWS, drawn, hostile
from depurate.reproduce.synthetic.transition import EXACT, find_breaks

GRID = tuple(round(0.05 * step, 2) for step in range(1, 17))


@pytest.mark.parametrize("law", [*LAWS, "adversarial"])
@pytest.mark.parametrize("guess", [0.0, 0.3, 0.9])
def test_the_search_agrees_with_trying_every_level(law, guess):
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(60, 15, generator=generator, dtype=torch.float64)
    clean = design @ torch.randn(15, 6, generator=generator, dtype=torch.float64)
    noise = hostile(design, 6, 1) if law == "adversarial" else drawn(LAWS[law], (60, 6), 1)
    found = find_breaks(design, clean, torch.zeros_like(clean), noise, GRID, guess)
    exact, certified = [], []
    for fraction in GRID:
        again = undo(design, clean + noise.at(fraction), torch.zeros_like(clean))
        exact.append((again.weights - clean).norm(dim=0) <= EXACT * clean.norm(dim=0))
        certified.append(again.certified)
    exact, certified = torch.stack(exact), torch.stack(certified)
    assert bool((exact[1:] <= exact[:-1]).all()), "failure is monotone in ε"
    assert found.exact == tuple(exact.sum(0).tolist())
    assert found.certified == tuple((certified & exact).sum(0).tolist())
    if law != "adversarial":
        assert found.false == 0


def test_an_adversary_who_knows_the_span_can_fake_certificates_once_the_hits_are_many_enough():
    """Noise equal to a vector of the span on the hit rows leaves a consistent, wrong answer: no proof can tell."""
    generator = torch.Generator().manual_seed(0)
    design = torch.randn(60, 15, generator=generator, dtype=torch.float64)
    clean = design @ torch.randn(15, 6, generator=generator, dtype=torch.float64)
    noise = hostile(design, 6, 1)
    found = undo(design, clean + noise.at(0.6), torch.zeros_like(clean))
    fooled = found.certified
    assert bool(fooled.any())
    torch.testing.assert_close(found.weights[:, fooled], (clean + noise.values)[:, fooled])


def test_hostile_noise_sits_on_the_largest_entries_of_a_direction_of_the_span():
    design = torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    noise = hostile(design, 3, 0)
    at = noise.at(0.2)
    assert ((at != 0).sum(0) == 10).all()
    rest = noise.values - design @ torch.linalg.lstsq(design, noise.values).solution
    assert float(rest.norm()) < 1e-9
    assert bool(
        (noise.values.abs().masked_fill(at == 0, 9e9).amin(0) >= (noise.values - at).abs().amax(0)).all()
    )
