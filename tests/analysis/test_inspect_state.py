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
