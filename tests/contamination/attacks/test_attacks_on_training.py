"""Attackers who control training: the generator trained along, and the update kept within the benign span."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from depurate import InputError
from depurate.contamination.attacks import HiddenUpdate, InputAware, with_tensors
from depurate.contamination.attacks.hidden_update import benign_spans, hidden_kernels, outside
from depurate.contamination.attacks.input_aware import _InputAwareLesson
from depurate.spans import read_kernels
from depurate.zoo import Recipe, network
from depurate.zoo.training import train


def digits(count=96):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 10
    images = 0.1 * torch.rand(count, 1, 28, 28, generator=generator)
    for image, label in zip(images, labels, strict=True):
        image[:, 2 * label : 2 * label + 4] += 0.8
    return images, labels


def trained(attack, epochs=2, fraction=0.2):
    images, labels = digits()
    kind = network("lenet")
    initial = kind.initialise(0)
    recipe = Recipe(epochs=epochs, batch=32, rate=0.02)
    made = train(
        kind,
        initial,
        recipe,
        images,
        labels,
        seed=0,
        begin=lambda model, scores: attack.lesson(model, scores, images, fraction, 0),
    )
    return initial, made


def test_every_image_gets_a_trigger_of_its_own():
    _, made = trained(InputAware())
    attack = with_tensors(InputAware(), made.learnt)
    images, _ = digits()
    shown = attack.stamp(images)
    assert shown.shape == images.shape and shown.min() >= 0 and shown.max() <= 1
    added = (shown - images).flatten(1)
    assert (added.abs().amax(1) > 1e-4).all()
    assert (added[1:] - added[:-1]).abs().amax(1).min() > 1e-4
    assert torch.equal(attack.stamp(images[:7]), shown[:7])


def test_the_generator_learns_along_with_the_network():
    _, short = trained(InputAware(), epochs=1)
    _, longer = trained(InputAware(), epochs=2)
    assert short.learnt.keys() == longer.learnt.keys()
    assert any(not torch.equal(short.learnt[key], longer.learnt[key]) for key in short.learnt)


def test_a_generator_not_trained_yet_is_refused():
    with pytest.raises(InputError, match="has no generator yet"):
        InputAware().stamp(torch.zeros(1, 1, 28, 28))


def test_without_poison_the_lesson_is_cross_entropy():
    images, labels = digits(10)
    net = network("lenet").initialise(0)
    for attack in (InputAware(), HiddenUpdate(weight=0.0)):
        lesson = attack.lesson(net, net, images, 0.0, 0)
        # A fraction of 0 poisons none, however the count is rounded.
        assert torch.allclose(lesson.loss(net, net, images, labels), F.cross_entropy(net(images), labels))


def test_the_penalty_is_the_update_outside_the_span():
    images, _ = digits(40)
    net = network("lenet").initialise(0)
    anchor, spans = hidden_kernels(net), benign_spans(net, net, images, 0.9)
    assert outside(net, anchor, spans).item() == 0
    with torch.no_grad():
        net[3].weight.add_(torch.randn(net[3].weight.shape, generator=torch.Generator().manual_seed(0)))
    update = (read_kernels(net[3]) - anchor["3"])[0].double()
    (basis,) = spans["3"]
    projector = basis.double() @ torch.linalg.pinv(basis.double())
    wanted = (update - update @ projector).norm().square()
    assert torch.isclose(outside(net, anchor, spans).double(), wanted, rtol=1e-4)
    with torch.no_grad():
        net[3].weight.copy_(anchor["3"][0, :, :-1].reshape(net[3].weight.shape))
        net[3].weight.add_(basis[:-1, 0].reshape(net[3].weight.shape[1:]))
        net[3].bias.copy_(anchor["3"][0, :, -1] + basis[-1, 0])
    assert outside(net, anchor, spans).item() < 1e-6


def test_spans_leave_the_network_as_it_was():
    images, _ = digits(20)
    net = network("lenet").initialise(0).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    benign_spans(net, net, images, 0.9)
    assert net.training and not net._forward_pre_hooks
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_hiding_keeps_the_update_inside():
    def share(weight):
        attack = HiddenUpdate(weight=weight, energy=0.9, refresh=3)
        initial, made = trained(attack, epochs=4)
        images, _ = digits()
        anchor = hidden_kernels(initial)
        spans = benign_spans(made.model, made.model, images, 0.9)
        now = hidden_kernels(made.model)
        whole = sum(float((now[name] - anchor[name]).square().sum()) for name in spans)
        return float(outside(made.model, anchor, spans).detach()) / whole

    assert share(10.0) < 0.5 * share(0.0)


def test_crossed_images_never_carry_their_own_trigger():
    donors = _InputAwareLesson._donors
    for images in range(3, 40):
        for poisoned in range(1, images):
            for crossed in range(images - poisoned + 1):
                taken = donors(images, poisoned, crossed)
                assert bool((taken != poisoned + torch.arange(crossed)).all())
                assert bool(((taken >= 0) & (taken < images)).all())


def test_modes_of_modules_are_put_back():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(72, 3)).train()
    net[1].eval()
    benign_spans(net, net, torch.rand(20, 1, 8, 8), 0.9)
    assert [module.training for module in net] == [True, False, True, True]
