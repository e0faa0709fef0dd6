"""Tensors that share memory, numbers of numpy, eight bits."""

import numpy as np
import pytest
import torch

from depurate.contamination import Sparse, parse_noise
from depurate.errors import InputError


def test_tied_tensors_are_hit_once():
    weight = torch.randn(20, 10)
    found = Sparse(0.3).apply({"embedding.weight": weight, "head.weight": weight}, seed=0)
    assert torch.equal(found.values["embedding.weight"], found.values["head.weight"])
    assert torch.equal(found.mask["embedding.weight"], found.mask["head.weight"])


def test_a_rate_of_numpy_is_written_as_a_number():
    noise = Sparse(np.float64(0.1))
    assert noise.spec == "sparse:rate=0.1"
    assert parse_noise(noise.spec) == noise


def test_numbers_of_eight_bits_are_refused_or_left_alone():
    small = torch.randn(4).to(torch.float8_e4m3fn)
    with pytest.raises(InputError, match="float8"):
        Sparse(0.5).apply(small, seed=0)
    found = Sparse(0.5).apply({"a": small, "b": torch.randn(4)}, seed=0)
    assert found.values["a"] is small


def test_tied_tensors_are_hit_alike_whichever_of_them_are_selected():
    weight = torch.randn(20, 10)
    state = {"embedding.weight": weight, "head.weight": weight, "other": torch.randn(5)}
    every, one = Sparse(0.3).apply(state, seed=0), Sparse(0.3).apply(state, seed=0, layers="head*")
    assert torch.equal(every.mask["head.weight"], one.mask["head.weight"])
    assert torch.equal(one.values["embedding.weight"], one.values["head.weight"])
    assert set(one.mask) == {"embedding.weight", "head.weight"}
