"""Pictures of many sizes with many numbers of objects: one program for all of them, and every element in the batch."""

import io
import itertools
from contextlib import closing
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from cnnjax.data import RandomCrop, ReadPictures, augment, eval_batches, open_source, train_batches
from cnnjax.data.batches.resident import gather, read_all
from cnnjax.settings import Objects
from tests.data.tiny_sources import write_labels, write_picture, write_xml

SIDES = [(20, 30), (31, 17), (9, 9), (40, 12), (16, 16), (25, 33), (12, 50)]


@pytest.fixture
def voc(tmp_path):
    """Seven pictures of seven sizes with 0 to 6 objects."""
    for number, (height, width) in enumerate(SIDES):
        write_picture(tmp_path / f"voc/{number}.png", height, width, 200)
        boxes = [("dog", 1 + n, 1, width - n, height - n) for n in range(number)]
        write_xml(tmp_path / f"voc/{number}.xml", (height, width), *boxes)
    return f"voc:{tmp_path}/voc"


@pytest.fixture
def instances(tmp_path):
    """The same pictures with label maps: k objects side by side in the k-th."""
    for number, (height, width) in enumerate(SIDES):
        write_picture(tmp_path / f"masks/images/{number}.png", height, width, 200)
        labels = np.minimum(np.arange(width) // 2 + 1, number + 1) % (number + 1)
        write_labels(tmp_path / f"masks/instances/{number}.png", np.tile(labels, (height, 1)))
    return f"masks:{tmp_path}/masks"


def detectors_step(traced):
    """What a step does with a batch, counting how often it is traced."""
    change = augment.on_batch(augment.compose(partial(augment.rotation, degrees=20.0), augment.flip))

    @jax.jit
    def step(key, batch):
        traced.append(None)
        batch = change(key, batch)
        return jnp.sum(batch["present"]), batch

    return step


@pytest.mark.parametrize("crop", [None, RandomCrop(area=(0.2, 0.5))], ids=["letterbox", "random crop"])
def test_nothing_is_compiled_anew_from_picture_to_picture(voc, instances, crop):
    for spelling, objects in ((voc, None), (instances, Objects(masks="stack")), (instances, Objects(slots=9))):
        traced, counts = [], set()
        step = detectors_step(traced)
        source = open_source(spelling, "all", objects=objects)
        read = ReadPictures((24, 32), "letterbox", random_crop=crop)
        with closing(train_batches(source, batch_size=1, seed=0, read=read, threads=0)) as batches:
            for batch in itertools.islice(batches, 10):
                count, found = step(jax.random.key(0), batch)
                counts.add(int(batch["present"].sum()))
                assert int(count) <= batch["present"].sum()
                empty = (found["boxes"][..., 2:] <= found["boxes"][..., :2]).any(-1)
                np.testing.assert_array_equal(found["present"], batch["present"] & ~np.asarray(empty))
        assert len(traced) == 1
        assert len(counts) > 3


def test_all_elements_are_in_every_batch_and_those_that_are_resident_are_the_same(voc, instances):
    for spelling in (voc, instances):
        source = open_source(spelling, "all")
        options = {"read": ReadPictures(32, "letterbox"), "threads": 0}
        resident = read_all(source, limit=2**24, console=Console(file=io.StringIO()), **options)
        counts, valid = [], []
        for batch in eval_batches(source, batch_size=3, **options):
            assert batch.keys() == {*source.info.shapes, "matrix", "id", "valid"}
            for name, shape in source.info.shapes.items():
                expected = {"image": (32, 32, 3), "masks": (32, 32)}.get(name, shape)
                assert batch[name].shape == (3, *expected)
            gathered = gather(resident, {"id": batch["id"], "valid": batch["valid"]})
            for name, values in batch.items():
                np.testing.assert_array_equal(gathered[name], values)
                assert values.dtype == gathered[name].dtype
            counts += batch["present"].sum(1).tolist()
            valid += batch["valid"].tolist()
        # The last picture fills the last batch up, and does not count.
        assert valid == [True] * 7 + [False] * 2
        assert counts[:7] == list(range(7))


def test_boxes_masks_and_pictures_stay_together(instances):
    source = open_source(instances, "all")
    for batch in eval_batches(source, batch_size=1, read=ReadPictures((64, 64), "letterbox"), threads=0):
        assert (batch["masks"][batch["image"][..., 0] == 0] == 0).all()
        for slot in np.flatnonzero(batch["present"][0]):
            rows, columns = np.nonzero(batch["masks"][0] == slot + 1)
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(batch["boxes"][0, slot], edges, atol=0.51)


def test_pictures_of_several_sizes_need_a_size(voc):
    with pytest.raises(ValueError, match=r"image of example 1 of voc:.*: pass image_size \(--image-size N\)"):
        list(eval_batches(open_source(voc, "all"), batch_size=7, threads=0))


def test_a_damaged_picture_is_left_out_with_its_objects(voc, tmp_path):
    (tmp_path / "voc/3.png").write_bytes(b"damaged")
    options = {"read": ReadPictures(32), "threads": 0, "unreadable": "skip"}
    faults = []
    (batch,) = eval_batches(open_source(voc, "all"), batch_size=7, on_fault=faults.append, **options)
    assert batch["valid"].tolist() == [number != 3 for number in range(7)]
    assert "3.png (" in faults[0].message
    assert "3.xml" in faults[0].message
