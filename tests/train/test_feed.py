import io
import itertools

import jax
import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import ArraySource, RandomCrop, ReadPictures, decode_example
from cnnjax.data.batches.resident import gather
from cnnjax.settings import Loading, Training
from cnnjax.train import parallel
from cnnjax.train.feed import open_feed

PICTURES = np.arange(10 * 12, dtype=np.uint8).reshape(10, 2, 2, 3)
SOURCE = ArraySource({"image": PICTURES, "label": np.arange(10) % 3})


def opened(*, read=decode_example, anew=False, **settings):
    one = parallel.Parallel(parallel.make_mesh(1))
    quiet = Console(file=io.StringIO())
    return open_feed(
        SOURCE, Training(**{"batch_size": 4} | settings), one, read=read, anew=anew, on_fault=print, console=quiet
    )


@pytest.mark.parametrize("read", ["shuffled", "once"])
def test_resident_and_streamed_batches_are_the_same(read):
    feeds = opened(), opened(loading=Loading(resident_mib=0, threads=0))
    assert [bool(feed.examples) for feed in feeds] == [True, False]
    options = {"seed": 2, "start": 8} if read == "shuffled" else {}
    resident, streamed = (itertools.islice(getattr(feed, read)(**options), 4) for feed in feeds)
    for named, whole in zip(resident, streamed, strict=True):
        assert named.keys() == {"id", "valid"}
        gathered = gather(feeds[0].on_device, jax.device_put(named))
        assert gathered.keys() == whole.keys()
        jax.tree.map(np.testing.assert_array_equal, gathered, whole)


def test_random_crops_are_streamed():
    """Every reading of an example is another, so none can be kept."""
    assert not opened(read=ReadPictures((2, 2), random_crop=RandomCrop(area=(0.5, 1.0))), anew=True).examples
    assert opened(read=ReadPictures((2, 2))).examples


def test_a_sample_is_the_shape_of_a_batch():
    shapes = {name: (leaf.shape, leaf.dtype) for name, leaf in opened().sample().items()}
    assert shapes == {"id": ((4,), np.int32), "valid": ((4,), np.bool_)}
    sample = opened(loading=Loading(resident_mib=0)).sample()
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in sample.items()} == shapes | {
        "image": ((4, 2, 2, 3), np.uint8),
        "label": ((4,), np.int32),
    }


@pytest.mark.parametrize("resident_mib", [0, 512])
def test_a_batch_larger_than_any_memory_is_a_shape(resident_mib):
    sample = opened(batch_size=10**12, loading=Loading(resident_mib=resident_mib)).sample()
    assert sample["id"].shape == (10**12,)
