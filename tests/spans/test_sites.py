"""Which layers are found, in which order, and how a forward pass is cut short."""

import pytest
import torch
from torch import nn

from depurate import InputError
from depurate.spans import find_sites, run_to


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class Residual(nn.Module):
    """Registered in another order than used, with a branch, an unused layer and a layer used twice."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.unused = nn.Linear(4, 3)
        self.shortcut = nn.Conv2d(2, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.norm(self.first(x)).relu()
        y = self.second(self.second(y).relu()) + self.shortcut(x)
        return self.head(y.mean((2, 3)))


def test_sites_come_in_the_order_of_use_with_their_calls():
    sites = find_sites(Residual().eval(), torch.zeros(2, 2, 5, 6))
    assert [site.name for site in sites] == ["first", "norm", "second", "shortcut", "head"]
    assert [site.calls for site in sites] == [1, 1, 2, 1, 1]
    assert [site.positions for site in sites] == [30, 30, 60, 30, 1]
    assert [site.kind for site in sites] == ["Conv2d", "BatchNorm2d", "Conv2d", "Conv2d", "Linear"]


def test_one_module_under_two_names_is_one_site():
    shared = nn.Linear(3, 3)
    sites = find_sites(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(2, 3))
    assert [(site.name, site.calls) for site in sites] == [("0", 2)]


@pytest.mark.parametrize("part", ["weight", "bias"])
def test_tied_parameters_are_left_out(part):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2))
    setattr(net[1], part, getattr(net[0], part))
    assert [site.name for site in find_sites(net, torch.zeros(2, 3))] == ["2"]


def test_batchnorm_without_running_statistics_is_left_out():
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False)).eval()
    assert [site.name for site in find_sites(net, torch.randn(2, 3))] == ["0"]


class Tokens(nn.Module):
    """Dense layers on (n·t, d), on (t, n, d) and on (n, t, d), as transformers have them."""

    def __init__(self):
        super().__init__()
        self.flat, self.sequence_first, self.plain = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        n, t, d = x.shape
        x = self.flat(x.reshape(n * t, d)).reshape(n, t, d)
        x = self.sequence_first(x.transpose(0, 1)).transpose(0, 1)
        return self.plain(x).mean(1)


def test_positions_are_counted_for_one_image_however_tokens_are_laid_out():
    sites = find_sites(Tokens(), torch.randn(2, 6, 4))
    assert [site.positions for site in sites] == [6, 6, 6]


def test_wrong_images_are_an_input_error_with_their_shape():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(InputError, match=r"\(1, 8, 8\).*3 channels"):
        find_sites(net, torch.zeros(2, 1, 8, 8))
    assert hooks(net) == 0


def test_a_network_that_asserts_its_image_size_is_an_input_error():
    class Picky(nn.Linear):
        def forward(self, x):
            torch._assert(x.shape[1] == 3, "Wrong image height!")
            return super().forward(x)

    with pytest.raises(InputError, match=r"\(5,\).*Wrong image height"):
        find_sites(nn.Sequential(Picky(5, 2)), torch.zeros(2, 5))


def test_hooks_are_gone_after_success_and_failure():
    net = Residual().eval()
    images = torch.randn(2, 2, 5, 6)
    sites = find_sites(net, images)
    run_to(net, sites[2], images, lambda x, y: None, need_output=True)
    assert hooks(net) == 0

    def fail(inputs, outputs):
        raise KeyError("mine")

    for need_output in (True, False):
        with pytest.raises(KeyError, match="mine"):
            run_to(net, sites[2], images, fail, need_output=need_output)
        assert hooks(net) == 0


def test_run_to_sees_every_call_and_stops_after_the_last():
    net = Residual().eval()
    images = torch.randn(3, 2, 5, 6)
    sites = {site.name: site for site in find_sites(net, images)}
    net.shortcut.register_forward_pre_hook(lambda *_: pytest.fail("went past the layer"))
    seen = []
    run_to(net, sites["second"], images, lambda x, y: seen.append((x, y)), need_output=True)
    with torch.no_grad():
        first = net.norm(net.first(images)).relu()
        torch.testing.assert_close(seen[0], (first, net.second(first)))
        torch.testing.assert_close(seen[1][0], net.second(first).relu())
    inputs = []
    run_to(net, sites["second"], images, lambda x, _: inputs.append(x), need_output=False)
    torch.testing.assert_close(inputs, [x for x, _ in seen])


@pytest.mark.parametrize("caught", [Exception, BaseException])
@pytest.mark.parametrize("need_output", [True, False])
def test_a_network_that_swallows_exceptions_changes_nothing(caught, need_output):
    class Forgiving(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.last = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            try:
                x = self.layer(x)
            except caught:
                x = self.layer(x)
            return self.last(x)

    net, images = Forgiving(), torch.randn(4, 3)
    seen = []
    run_to(net, find_sites(net, images)[0], images, lambda x, y: seen.append(x), need_output=need_output)
    assert len(seen) == 1
    assert torch.equal(seen[0], images)
    assert hooks(net) == 0
