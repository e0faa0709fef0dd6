"""What `inspect_state` makes of numbers of every kind."""

import torch

from depurate.analysis import inspect_state


def test_numbers_of_eight_bits_are_read():
    (found,) = inspect_state({"w": torch.randn(4, 4).to(torch.float8_e4m3fn)}, {})
    assert (found.nonfinite, found.absurd) == (0, 0)


def test_negative_variances_are_certain_hits():
    variances = torch.tensor([1.0, 2.0, -3.0, 1.0, 1.0, 1.0])
    (found,) = inspect_state({"norm.running_var": variances}, {})
    assert found.absurd == 1
    (found,) = inspect_state({"norm.weight": variances}, {})
    assert found.absurd == 0


def test_variances_are_judged_by_their_roots():
    variances = torch.cat([torch.full((30,), 1e-4), torch.tensor([20.0])])
    assert inspect_state({"norm.running_var": variances}, {})[0].absurd == 0
    assert inspect_state({"norm.weight": variances}, {})[0].absurd == 1


def test_masks_are_no_damage_and_few_changed_entries_are_counted():
    mask = torch.full((4, 4), float("-inf")).triu(1)
    anchor = {"w": torch.zeros(100, 100)}
    changed = anchor["w"].clone()
    changed[0, 0] = 1.0
    found = {finding.name: finding for finding in inspect_state({"mask": mask, "w": changed}, anchor)}
    assert found["mask"].finding == "nothing seen"
    assert "in 1 of 10,000 entries only" in found["w"].finding
