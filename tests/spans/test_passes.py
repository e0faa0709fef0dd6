"""Passes that stop at layers: the same inputs as a run from the start, in any order, shared, or short of memory."""

import pytest
import torch
from torch import nn

from depurate.spans import Passes, find_sites, run_to


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 4)
    ).eval()


def from_the_start(net, site, batch):
    found = []
    run_to(net, site, batch, lambda inputs, _: found.append(inputs), need_output=False)
    return found


@pytest.mark.parametrize("held", [0, 1 << 10, 1 << 30])
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1), (1, 1, 3, 3)])
def test_inputs_are_those_of_a_run_from_the_start(held, order):
    net, batches = network(), list(torch.randn(7, 1, 8, 8).split(3))
    sites = find_sites(net, batches[0])
    with Passes(net, sites, batches, held=held) as passes:
        for place in order:
            found = list(passes.inputs(sites[place]))
            for batch, inputs in zip(batches, found, strict=True):
                torch.testing.assert_close(inputs, from_the_start(net, sites[place], batch))


def test_a_layer_changed_while_the_passes_stand_before_it_is_the_changed_one_to_those_after():
    net, batch = network(), torch.randn(4, 1, 8, 8)
    sites = find_sites(net, batch)
    with Passes(net, sites, [batch]) as passes:
        for site in sites:
            inputs = next(iter(passes.inputs(site)))
            torch.testing.assert_close(inputs, from_the_start(net, site, batch))
            with torch.no_grad():
                for parameter in net.get_submodule(site.name).parameters():
                    parameter.mul_(0.5)


def test_each_layer_runs_once():
    net, batches = network(), list(torch.randn(6, 1, 8, 8).split(2))
    sites, runs = find_sites(net, batches[0]), []
    net[0].register_forward_hook(lambda *_: runs.append(1))
    with Passes(net, sites, batches) as passes:
        for site in sites:
            list(passes.inputs(site))
    assert len(runs) == len(batches)


def test_all_calls_of_a_shared_layer_are_seen():
    layer = nn.Linear(3, 3)
    net = nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(3, 1)).eval()
    batch = torch.randn(5, 3)
    sites = find_sites(net, batch)
    with Passes(net, sites, [batch]) as passes:
        assert len(next(iter(passes.inputs(sites[0])))) == 2
        torch.testing.assert_close(next(iter(passes.inputs(sites[1]))), from_the_start(net, sites[1], batch))


def test_a_batch_that_never_gets_there_brings_nothing():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            x = self.first(x)
            return self.second(x) if len(x) > 1 else x

    net = Moody().eval()
    sites = find_sites(net, torch.zeros(2, 2))
    with Passes(net, sites, [torch.zeros(2, 2), torch.zeros(1, 2)]) as passes:
        assert [len(inputs) for inputs in passes.inputs(sites[1])] == [1, 0]


def test_errors_reach_the_caller_and_hooks_do_not_stay():
    net, batch = network(), torch.randn(4, 1, 8, 8)
    sites = find_sites(net, batch)
    with pytest.raises(RuntimeError), Passes(net, sites, [torch.randn(4, 2, 8, 8)]) as passes:
        list(passes.inputs(sites[1]))
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_gradients_are_off_in_a_pass_and_as_before_around_it():
    net, batch = network(), torch.randn(4, 1, 8, 8)
    sites = find_sites(net, batch)
    with Passes(net, sites, [batch, batch]) as passes:
        for inputs in passes.inputs(sites[2]):
            assert not inputs[0].requires_grad
            assert torch.is_grad_enabled()


def test_a_batch_that_is_there_twice_passes_once():
    net, batch = network(), torch.randn(4, 1, 8, 8)
    sites, runs = find_sites(net, batch), []
    net[0].register_forward_hook(lambda *_: runs.append(1))
    with Passes(net, sites, [batch, batch.clone(), batch]) as passes:
        for site in sites:
            first, _, last = passes.inputs(site)
            torch.testing.assert_close(first, last)
    assert len(runs) == 2


def test_where_not_all_can_be_held_evenly_spread_batches_are_looked_at_but_enough_images():
    net, batches = network(), list(torch.randn(1024, 1, 8, 8).split(32))
    site = find_sites(net, batches[0])[1]
    held = 32 * 3 * 36 * 4  # what one batch brings to the second layer, and all that is kept of it
    for limit, places in ((32 * held, range(32)), (16 * held, range(0, 32, 2)), (held, range(0, 32, 8))):
        with Passes(net, [site], batches, held=limit) as passes:
            assert passes.places(site) == places
            for place, inputs in zip(places, passes.inputs(site, places), strict=True):
                torch.testing.assert_close(inputs, from_the_start(net, site, batches[place]))


def test_what_an_early_layer_took_a_later_one_passes_on():
    net, batches, runs = network(), list(torch.randn(1024, 1, 8, 8).split(32)), []
    sites = find_sites(net, batches[0])
    net[0].register_forward_hook(lambda *_: runs.append(1))
    with Passes(net, sites, batches, held=14 * 32 * 3 * 36 * 4) as passes:
        taken = [list(passes.inputs(site, passes.places(site))) for site in sites[:3]]
    assert {len(inputs) for inputs in taken[1:]} < {8, 16, 32}
    assert len(runs) <= 32
