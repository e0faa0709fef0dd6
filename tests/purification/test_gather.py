"""Images collected from batches of any size."""

import time

import pytest
import torch

from depurate.errors import InputError
from depurate.purification.images import gather


def test_single_images_and_batches_give_the_same_sample():
    images = torch.rand(300, 1, 4, 4)
    single = gather(iter(images[:, None]), limit=50, seed=3, like=images)
    whole = gather(images, limit=50, seed=3, like=images)
    assert torch.equal(single.images, whole.images) and single.seen == whole.seen == 300


def test_time_grows_as_the_images_do():
    def seconds(count):
        # All of them stay in caches, beyond which the same copy takes three times as long.
        picture, started = torch.zeros(1, 3, 32, 32), time.process_time()
        gather((picture for _ in range(count)), limit=4000, seed=0, like=picture)
        return time.process_time() - started

    seconds(50)
    few, many = (min(seconds(count) for _ in range(3)) for count in (200, 1600))
    assert many < 20 * max(few, 0.01)


def test_no_batch_of_one_is_left_over():
    benign = gather(torch.rand(129, 1, 4, 4), limit=200, seed=0, like=torch.zeros(1))
    assert [len(batch) for batch in benign.all()] == [129]


def test_pixels_of_an_absurd_size_are_refused():
    images = torch.rand(20, 1, 4, 4)
    images[3, 0, 1, 1] = 1e20
    with pytest.raises(InputError, match="a pixel value of 1e\\+20"):
        gather(images, limit=100, seed=0, like=torch.zeros(1))


def test_pixels_may_be_of_any_kind_of_number():
    for kind in (torch.bool, torch.uint8, torch.int16):
        images = (torch.rand(20, 1, 4, 4) > 0.5).to(kind)
        assert gather(images, limit=100, seed=0, like=torch.zeros(1)).images.dtype is torch.float32
