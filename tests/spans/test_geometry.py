"""Patches times kernels must be the module's own output, whatever the module."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from depurate.spans import geometry_of, read_kernels, write_kernels

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
SIZE = 7


@st.composite
def convolutions(draw):
    axes = draw(st.sampled_from([1, 2, 2, 3]))
    each = lambda values: tuple(draw(st.lists(values, min_size=axes, max_size=axes)))  # noqa: E731
    kernel, dilation = each(st.integers(1, 3)), each(st.integers(1, 2))
    kind = draw(st.sampled_from(["integer", "tuple", "same", "valid"]))
    stride = (1,) * axes if kind == "same" else each(st.integers(1, 3))
    padding = {"integer": draw(st.integers(0, 2)), "tuple": each(st.integers(0, 2))}.get(kind, kind)
    groups = draw(st.integers(1, 3))
    torch.manual_seed(draw(st.integers(0, 999)))
    layer = CONVOLUTIONS[axes](
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
    ).double()
    sizes = (SIZE, SIZE + 1, SIZE - 1)[:axes]
    return layer, torch.randn(draw(st.integers(1, 3)), layer.in_channels, *sizes, dtype=torch.float64)


def agree(layer, inputs, share=1.0):
    """The layer's outputs by way of patches, against its own, at a random subset of positions of each input."""
    geometry = geometry_of(layer)
    with torch.no_grad():
        outputs = layer(inputs)
    positions = geometry.positions(inputs)
    taken = max(1, int(share * positions))
    at = torch.rand(len(inputs), positions).topk(taken, dim=1).indices
    patches = geometry.patches(inputs, at)
    kernels = read_kernels(layer)
    assert patches.shape == (geometry.groups, len(inputs) * taken, geometry.fan_in)
    assert kernels.shape[2] == geometry.fan_in
    torch.testing.assert_close(patches @ kernels.mT, geometry.outputs(outputs, at), atol=1e-12, rtol=1e-10)


@settings(max_examples=80, deadline=None)
@given(convolutions(), st.sampled_from([0.3, 1.0]))
def test_convolutions_are_linear_on_their_patches(case, share):
    agree(*case, share)


@settings(max_examples=60, deadline=None)
@given(convolutions())
def test_positions_are_the_size_of_the_output(case):
    layer, inputs = case
    assert geometry_of(layer).positions(inputs) == layer(inputs)[0, 0].numel()


@pytest.mark.parametrize("multiplier", [1, 2])
def test_depthwise(multiplier):
    layer = nn.Conv2d(6, 6 * multiplier, 3, padding=1, groups=6).double()
    assert read_kernels(layer).shape == (6, multiplier, 10)
    agree(layer, torch.randn(2, 6, 5, 5).double())


@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5), (2, 3, 2, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_dense_layers_read_the_last_axis(shape, bias):
    agree(nn.Linear(5, 7, bias=bias).double(), torch.randn(*shape).double(), share=0.7)


def test_outputs_and_patches_are_in_the_same_order():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    inputs, at = torch.arange(12.0).reshape(2, 1, 2, 3), torch.tensor([[5, 0], [2, 3]])
    assert geometry_of(layer).patches(inputs, at).flatten().tolist() == [5, 0, 8, 9]
    assert geometry_of(layer).outputs(inputs, at).flatten().tolist() == [5, 0, 8, 9]


@settings(max_examples=30, deadline=None)
@given(convolutions())
def test_kernels_written_back_are_the_layer_itself(case):
    layer, inputs = case
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    wanted = layer(inputs)
    kernels = read_kernels(layer)
    write_kernels(layer, torch.zeros_like(kernels))
    assert all(bool((value == 0).all()) for value in layer.state_dict().values())
    write_kernels(layer, kernels)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert torch.equal(layer(inputs), wanted)


def test_read_kernels_are_a_copy():
    layer = nn.Linear(3, 2)
    read_kernels(layer).zero_()
    assert bool((layer.weight != 0).any())


def test_what_is_no_plain_linear_map_has_no_geometry():
    class Scaled(nn.Linear):
        def forward(self, inputs):
            return 2 * super().forward(inputs)

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    assert geometry_of(normed) is None
    assert geometry_of(nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 1, 3))) is None
    assert geometry_of(Scaled(3, 3)) is None
    assert geometry_of(nn.ConvTranspose2d(3, 3, 3)) is None
    assert geometry_of(nn.Embedding(3, 3)) is None
