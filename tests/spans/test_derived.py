"""Layers whose class is derived from a convolution or a dense layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from depurate import purify
from depurate.spans import find_sites, geometry_of, geometry_on, read_kernels


class SamePadded(nn.Conv2d):
    """Pads as TensorFlow does: as much as the size of the picture calls for, the larger half behind."""

    def forward(self, images: Tensor) -> Tensor:
        pads: list[int] = []
        for axis in (1, 0):
            size, stride = images.shape[2 + axis], self.stride[axis]
            reach = (-(-size // stride) - 1) * stride + self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            total = max(0, reach - size)
            pads += [total // 2, total - total // 2]
        return super().forward(F.pad(images, pads))


class Standardised(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std()
        return F.conv2d(images, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class LowRank(nn.Linear):
    """Adds a correction of rank one that is zero so far."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.left = nn.Parameter(torch.zeros(outputs, 1))
        self.right = nn.Parameter(torch.randn(1, inputs))

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features) + features @ (self.left @ self.right).mT


class Renamed(nn.Linear):
    pass


class Reflected(nn.Conv2d):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.pad(images, (1, 1, 1, 1), mode="reflect"))


class Paired(nn.Linear):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(features), features


class Reshaping(nn.Linear):
    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.view(3, 5))


def test_padding_of_its_own_is_found_by_what_comes_out() -> None:
    for size, kernel, stride, groups in (
        (8, 3, 2, 1),
        (9, 3, 2, 2),
        (7, 5, 1, 1),
        (10, 5, 2, 1),
        (6, 1, 2, 1),
    ):
        layer = SamePadded(4, 6, kernel, stride, groups=groups)
        images = torch.randn(2, 4, size, size + 3)
        assert geometry_of(layer) is None
        geometry = geometry_on(layer, images)
        assert geometry is not None
        at = torch.arange(geometry.positions(images)).expand(2, -1)
        found = geometry.patches(images, at) @ read_kernels(layer).mT
        assert torch.allclose(found, geometry.outputs(layer(images), at), atol=1e-4)


def test_what_is_no_linear_map_by_its_own_weight_is_left_alone() -> None:
    images, features = torch.randn(2, 4, 6, 6), torch.randn(2, 5)
    assert geometry_on(Standardised(4, 4, 3), images) is None
    assert geometry_on(Reflected(4, 4, 3), images) is None
    assert geometry_on(LowRank(5, 5), features) is None
    assert geometry_on(Paired(5, 5), features) is None
    assert geometry_on(Reshaping(5, 5), features) is None
    assert geometry_on(nn.ReLU(), features) is None


def test_the_layer_looked_at_and_the_draws_of_others_stay_as_they_are() -> None:
    layer = Renamed(5, 2)
    before, state = layer.weight.clone(), torch.random.get_rng_state()
    assert geometry_on(layer, torch.randn(3, 5)) == geometry_of(nn.Linear(5, 2))
    torch.random.set_rng_state(state)
    geometry_on(layer, torch.ones(3, 5))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(before, layer.weight)


def test_a_nan_does_not_hide_how_a_layer_reads() -> None:
    layer = SamePadded(4, 6, 3, 2)
    with torch.no_grad():
        layer.weight[0, 0, 0, 0] = float("nan")
    assert geometry_on(layer, torch.randn(1, 4, 8, 8)) is not None


def test_pictures_of_two_sizes_that_it_pads_in_two_ways_are_left_alone() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = SamePadded(4, 4, 3, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.layer(self.layer(images)).mean((2, 3))

    assert [site.name for site in find_sites(Twice().eval(), torch.randn(2, 4, 10, 10))] == []
    assert [site.calls for site in find_sites(Twice().eval(), torch.randn(2, 4, 16, 16))] == [2]


def test_a_network_of_derived_layers_is_recovered_and_the_others_are_named() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        SamePadded(3, 8, 3, 2), nn.ReLU(), Standardised(8, 8, 3), nn.ReLU(), nn.Flatten(), Renamed(72, 4)
    ).eval()
    result = purify(net, torch.randn(80, 3, 10, 10), method="soft", strength=0.1)
    assert [layer.name for layer in result.record.layers] == ["0", "5"]
    assert result.record.untouched == ("2.weight", "2.bias")
    assert not torch.equal(result.model[0].weight, net[0].weight)


def test_a_nan_in_a_layer_that_the_walk_does_not_recover_is_set_to_zero() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), LowRank(8, 8), nn.ReLU(), nn.Linear(8, 3)
    ).eval()
    with torch.no_grad():
        net[3].weight[1, 2] = float("nan")
    result = purify(net, torch.randn(60, 3, 2, 2))
    assert result.model[3].weight[1, 2] == 0
    assert any("3.weight: 1 of 64 entries arrived as NaN" in said for said in result.record.warnings)
