"""Pictures of any shapes, with boxes, masks and key points, from their source to batches of one shape."""

import io
import itertools
from contextlib import closing

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from cnnjax.data import Info, RandomCrop, ReadPictures, eval_batches, read_example, train_batches
from cnnjax.data.batches.resident import gather, read_all
from cnnjax.data.pictures.statistics import channel_statistics
from tests.data.tiny_sources import NoColumns, encode

MOST = {"boxes": 3, "kind": 3, "keypoints": 3}
SIZES = [(48, 48), (40, 64)]


class Scenes(NoColumns):
    """PNGs of 8 sizes, black, with 0 to 3 white rectangles of at least 12 pixels, their boxes, centres and mask."""

    info = Info("scenes", "all", {"image": (None, None, 3)}, ("thing", "other"))

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        height, width = 60 + 9 * index, 90 - 5 * index
        mask, boxes = np.zeros((height, width), np.uint8), []
        for number in range(index % 4):
            x, y, wide, tall = 5 + 16 * number, int(generator.integers(5, 30)), 12, int(generator.integers(12, 20))
            mask[y : y + tall, x : x + wide] = number + 1
            boxes.append([x, y, x + wide, y + tall])
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        return {
            "image": encode(Image.fromarray(255 * (mask > 0).astype(np.uint8)), "PNG"),
            "boxes": boxes,
            "kind": np.arange(len(boxes), dtype=np.int32),
            "keypoints": (boxes[:, :2] + boxes[:, 2:]) / 2,
            "masks": mask,
            "label": np.int32(index % 2),
        }


def read(size, **options):
    return ReadPictures(size, "letterbox", most=MOST, **options)


def check(batch, size):
    """What is white, what the mask names and what the boxes say agree, to the pixel that resizing blurs."""
    assert batch["image"].shape[1:] == (*size, 3)
    assert batch["boxes"].shape[1:] == (3, 4)
    assert batch["masks"].shape[1:] == size
    for image, boxes, points, mask in zip(*(batch[n] for n in ("image", "boxes", "keypoints", "masks")), strict=True):
        np.testing.assert_array_equal(mask[image[..., 0] > 250] > 0, True)
        np.testing.assert_array_equal(mask[image[..., 0] < 5], 0)
        for number, (box, point) in enumerate(zip(boxes, points, strict=True)):
            rows, columns = np.nonzero(mask == number + 1)
            if not len(rows):
                assert (box[2:] - box[:2]).min() < 1
                continue
            edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(box, edges, atol=0.51)
            whole = box.min() > 0 and (box[2:] < size[::-1]).all()
            if whole:
                np.testing.assert_allclose(point, [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], atol=1e-3)


def first(batches, count):
    with closing(batches):
        return list(itertools.islice(batches, count))


@pytest.mark.parametrize(
    ("size", "crop", "workers"),
    [(SIZES[0], None, 0), (SIZES[1], None, 0), (SIZES[0], RandomCrop((0.4, 1.0)), 0), (SIZES[1], RandomCrop(), 1)],
)
def test_threads_and_workers_give_the_same_pictures_and_targets(size, crop, workers):
    options = {"batch_size": 8, "seed": 3, "read": read(size, random_crop=crop, seed=3)}
    alone = first(train_batches(Scenes(), threads=0, **options), 2)
    apart = first(train_batches(Scenes(), threads=2, workers=workers, **options), 2)
    for ours, theirs in zip(alone, apart, strict=True):
        check(ours, size)
        assert ours.keys() == theirs.keys() == {*Scenes()[0], "matrix", "id", "valid"}
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name])
    # Predictions go back by the matrix: the first box's upper left corner, unless it was cut.
    if crop is None:
        for row, index in enumerate(alone[0]["id"]):
            if len(boxes := Scenes()[int(index)]["boxes"]):
                back = np.linalg.inv(alone[0]["matrix"][row]) @ [*alone[0]["boxes"][row, 0, :2], 1]
                np.testing.assert_allclose(back[:2], boxes[0, :2], atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
def test_resident_examples_are_the_streamed_ones(size):
    options = {"read": read(size), "threads": 0}
    resident = read_all(Scenes(), limit=2**24, console=Console(file=io.StringIO()), **options)
    for batch in eval_batches(Scenes(), batch_size=3, **options):
        gathered = gather(resident, {"id": batch["id"], "valid": batch["valid"]})
        assert gathered.keys() == batch.keys()
        for name, values in batch.items():
            np.testing.assert_array_equal(gathered[name], values)


def test_a_ragged_element_is_an_error_that_says_how_it_is_filled_up():
    words = r"boxes of example 1 of scenes: \(1, 4\), of example 0 of scenes: \(0, 4\).*most=\{'boxes': N\}"
    with pytest.raises(ValueError, match=words):
        list(eval_batches(Scenes(), batch_size=8, read=ReadPictures(48)))
    few = ReadPictures(48, most={**MOST, "boxes": 2})
    with pytest.raises(ValueError, match=r"example 3 of scenes: 'boxes' has 3 entries.*pass a larger number"):
        list(eval_batches(Scenes(), batch_size=8, read=few, unreadable="skip"))


def test_statistics_are_of_every_pixel_of_any_shape():
    pixels = np.concatenate([read_example(Scenes(), index)["image"].reshape(-1, 3) for index in range(8)]) / 255
    found = channel_statistics(Scenes())
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(found.deviation, pixels.std(0), rtol=1e-9)
