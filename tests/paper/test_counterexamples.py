"""The counter-examples of docs/theory.md, run."""

import torch

from depurate.paper import undo


def columns(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_more_zeros_than_the_rank_prove_nothing():
    found = undo(columns(1, 1, 1, 0, 0), columns(1, 2, 3, 0, 0), columns(0, 0, 0, 0, 0))
    assert int(found.solution.zeros) > found.solution.rank
    assert not found.certified.any()


def test_a_law_with_atoms_can_fake_a_certificate():
    ones = columns(1, 1, 1, 1, 1)
    found = undo(ones, columns(3, 3, 3, 0, 0), torch.zeros_like(ones))
    assert bool(found.certified.all())
    torch.testing.assert_close(found.weights, 3 * ones)


def test_a_full_span_returns_its_input_and_certifies_nothing():
    suspect = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = undo(torch.eye(6, dtype=torch.float64), suspect, torch.zeros_like(suspect))
    assert torch.equal(found.weights, suspect) and not found.certified.any()


def test_an_update_outside_the_span_is_not_certified():
    generator = torch.Generator().manual_seed(1)
    design = torch.randn(60, 8, generator=generator, dtype=torch.float64)
    outside = torch.randn(60, 20, generator=generator, dtype=torch.float64)
    assert not undo(design, outside, torch.zeros_like(outside)).certified.any()
