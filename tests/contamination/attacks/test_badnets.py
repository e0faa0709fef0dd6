"""BadNets: pixels, labels, share and refusals."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from depurate import InputError
from depurate.contamination import BadNets


def test_the_stamp_by_hand():
    images = torch.rand(3, 2, 28, 28)
    before = images.clone()
    stamped = BadNets(value=0.5).stamp(images)
    assert torch.equal(images, before)
    for row in range(28):
        for column in range(28):
            inside = row in (24, 25, 26) and column in (24, 25, 26)
            expected = torch.full((3, 2), 0.5) if inside else images[:, :, row, column]
            assert torch.equal(stamped[:, :, row, column], expected)


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 30), fraction=st.floats(0, 1), seed=st.integers(0, 2**31))
def test_poison_stamps_and_relabels_the_same_share(count, fraction, seed):
    attack = BadNets(rows=(1, 3), columns=(0, 2), value=9.0, target=7)
    images, labels = torch.rand(count, 1, 5, 5), torch.zeros(count, dtype=torch.int64)
    before, labels_before = images.clone(), labels.clone()
    poisoned, relabelled = attack.poison(images, labels, fraction, seed)
    assert torch.equal(images, before) and torch.equal(labels, labels_before)
    hit = relabelled == 7
    assert int(hit.sum()) == round(fraction * count)
    assert torch.equal(poisoned[hit], attack.stamp(images)[hit])
    assert torch.equal(poisoned[~hit], images[~hit])
    again, _ = attack.poison(images, labels, fraction, seed)
    assert torch.equal(poisoned, again)


@pytest.mark.parametrize("rows", [(26, 29), (3, 3), (-1, 2)])
def test_a_rectangle_outside_the_images_is_refused(rows):
    with pytest.raises(InputError, match="28 rows"):
        BadNets(rows=rows).stamp(torch.zeros(1, 1, 28, 28))


def test_labels_that_do_not_match_are_refused():
    with pytest.raises(InputError, match=r"expected \(4,\)"):
        BadNets().poison(torch.zeros(4, 1, 28, 28), torch.zeros(3), 0.5, 0)


def test_a_fraction_above_one_is_refused():
    with pytest.raises(InputError, match="fraction"):
        BadNets().poison(torch.zeros(4, 1, 28, 28), torch.zeros(4), 1.5, 0)
