"""BatchNorm statistics against torch's own running averages."""

import pytest
import torch
from torch import nn

from depurate.recovery import batch_statistics, read_statistics, renew_statistics
from depurate.recovery.batchnorm import least_variances
from depurate.spans import Site, find_sites


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d, (40, 3)),
        (nn.BatchNorm1d, (40, 3, 5)),
        (nn.BatchNorm2d, (40, 3, 4, 5)),
        (nn.BatchNorm3d, (40, 3, 2, 3, 2)),
    ],
)
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_statistics_are_those_of_torch(norm, shape, offset):
    torch.manual_seed(0)
    images = (
        offset + torch.randn(shape) * torch.linspace(0.1, 3, 3).reshape(3, *[1] * (len(shape) - 2))
    ).float()
    reference = norm(3, momentum=None).double().train()
    reference(images.double())
    net = nn.Sequential(norm(3)).eval()
    site = find_sites(net, images[:2])[0]
    for size in (40, 7, 1):
        mean, variance = batch_statistics(net, site, list(images.split(size)))
        torch.testing.assert_close(mean, reference.running_mean, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(variance, reference.running_var, rtol=1e-8, atol=1e-10)


def test_statistics_of_a_norm_used_twice_pool_both_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(self.norm(x) + 3)

    net, images = Twice().double().eval(), torch.randn(50, 2).double()
    mean, variance = batch_statistics(net, find_sites(net, images[:2])[0], [images[:20], images[20:]])
    with torch.no_grad():
        pooled = torch.cat([images, net.norm(images) + 3])
    torch.testing.assert_close(mean, pooled.mean(0))
    torch.testing.assert_close(variance, pooled.var(0))


def test_the_network_keeps_its_own_statistics():
    net = nn.Sequential(nn.BatchNorm1d(2)).eval()
    batch_statistics(net, find_sites(net, torch.randn(2, 2))[0], [torch.randn(9, 2)])
    assert net[0].running_mean.tolist() == [0, 0]
    assert int(net[0].num_batches_tracked) == 0


def test_variances_are_kept_of_channels_whose_kernels_were_replaced():
    net = nn.Sequential(nn.BatchNorm1d(3)).eval()
    net[0].running_var[:] = torch.tensor([4.0, 4.0, float("nan")])
    replaced = torch.zeros(1, 3, 10, dtype=torch.bool)
    replaced[0, :, :6] = torch.tensor([True, False, True])[:, None]
    least = least_variances(read_statistics(net[0]), replaced)
    assert least.tolist() == [4.0, 0.0, 0.0]
    batch = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    sites = (Site("0", "BatchNorm1d", None, 1, 1),)
    fresh = renew_statistics(net, sites, [batch], {"0": least})["0"][0]
    assert torch.allclose(fresh[1], torch.maximum(batch.var(0), least))
    assert torch.allclose(fresh[0], batch.mean(0))
    assert (
        least_variances(fresh, None).tolist() == least_variances(fresh, replaced[:, :2]).tolist() == [0.0] * 3
    )
