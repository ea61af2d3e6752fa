"""YOLO: targets, loss and decoding beside a plain second writing in NumPy, and by hand; darknet's gradient; counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.parts.detector import Selection
from cnnjax.models.yolo import YOLOOutput

SIZE, CELLS, CLASSES, PREDICTORS = (70, 140), (7, 7), 3, 2


def output_of(seed=0, batch=2):
    random = np.random.default_rng(seed)
    cells = CELLS[0] * CELLS[1]
    return YOLOOutput(
        jnp.asarray(random.uniform(0, 1, (batch, cells, CLASSES)), jnp.float32),
        jnp.asarray(random.uniform(0, 1, (batch, cells, PREDICTORS)), jnp.float32),
        jnp.asarray(random.uniform(-0.1, 1, (batch, cells, PREDICTORS, 4)), jnp.float32),
        SIZE,
        CELLS,
        Selection(0.3, 0.5, 40),
    )


# The second and third share a cell, which the first of them has; the last slot is empty; the second picture has none.
OBJECTS = models.Objects(
    jnp.asarray([[[3.0, 2, 40, 30], [100, 40, 130, 60], [95, 42, 136, 58], [0, 0, 0, 0]], [[0.0] * 4] * 4]),
    jnp.asarray([[2, 0, 1, 0], [0, 0, 0, 0]], jnp.int32),
    jnp.asarray([[True, True, True, False], [False] * 4]),
)


def corners(box, row, column):
    """Of what a predictor says, in pixels."""
    x, y = (column + box[0]) * SIZE[1] / CELLS[1], (row + box[1]) * SIZE[0] / CELLS[0]
    wide, high = box[2] ** 2 * SIZE[1], box[3] ** 2 * SIZE[0]
    return np.array([x - wide / 2, y - high / 2, x + wide / 2, y + high / 2])


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    common = np.prod(np.maximum(high - low, 0))
    return common / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - common)


def plain_losses(output, picture, share=1.0):
    """Darknet's loops, with its factors where `share` is a half: cell by cell, then predictor by predictor."""
    total = dict.fromkeys(("box", "confidence", "no object", "class"), 0.0)
    owners = {}
    for slot in range(4):
        if OBJECTS.present[picture, slot]:
            box = np.asarray(OBJECTS.boxes[picture, slot], np.float64)
            cell = int((box[1] + box[3]) / 2 / SIZE[0] * 7), int((box[0] + box[2]) / 2 / SIZE[1] * 7)
            owners.setdefault(cell, slot)
    for cell in range(49):
        row, column = divmod(cell, 7)
        said = np.asarray(output.boxes[picture, cell], np.float64)
        sure = np.asarray(output.confidences[picture, cell], np.float64)
        best = None
        if (row, column) in owners:
            slot = owners[row, column]
            true = np.asarray(OBJECTS.boxes[picture, slot], np.float64)
            ious = [overlap(corners(one, row, column), true) for one in said]
            x, y = (true[0] + true[2]) / 2 / SIZE[1] * 7 - column, (true[1] + true[3]) / 2 / SIZE[0] * 7 - row
            wanted = np.array([x, y, *np.sqrt((true[2:] - true[:2]) / np.array(SIZE[::-1]))])
            if max(ious) > 0:
                best = int(np.argmax(ious))
            else:
                far = [[(one[0] - x) / 7, (one[1] - y) / 7, *(one[2:] ** 2 - wanted[2:] ** 2)] for one in said]
                best = int(np.argmin(np.square(far).sum(axis=1)))
            total["box"] += share * 5 * np.square(said[best] - wanted).sum()
            total["confidence"] += share * (sure[best] - ious[best]) ** 2
            one_hot = np.eye(CLASSES)[int(OBJECTS.classes[picture, slot])]
            total["class"] += share * np.square(np.asarray(output.classes[picture, cell]) - one_hot).sum()
        total["no object"] += share * 0.5 * sum(one**2 for at, one in enumerate(sure) if at != best)
    return total


@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_is_that_of_plain_loops(seed):
    output = output_of(seed)
    parts = output.losses(OBJECTS)
    for picture in range(2):
        for name, expected in plain_losses(output, picture).items():
            np.testing.assert_allclose(parts[name].total[picture], expected, rtol=2e-5, atol=1e-6, err_msg=name)
    assert {float(part.count[0]) for part in parts.values()} == {1.0}


def test_the_gradient_is_twice_darknets():
    """Darknet steps along class (1), no object (0.5), confidence (1) and box (5) times the plain difference."""
    output = output_of()

    def total(confidences):
        return sum(part.total[0] for part in output.replace(confidences=confidences).losses(OBJECTS).values())

    found = jax.grad(total)(output.confidences)[0]
    steps = 1e-3
    by_half = np.zeros_like(found)
    for at in np.ndindex(3, PREDICTORS):
        sums = [
            sum(plain_losses(output.replace(confidences=output.confidences.at[(0, *at)].add(step)), 0, 0.5).values())
            for step in (steps, -steps)
        ]
        by_half[at] = (sums[0] - sums[1]) / (2 * steps)
    np.testing.assert_allclose(found[:3], 2 * by_half[:3], rtol=2e-3, atol=2e-4)


def test_no_gradient_goes_through_the_overlap():
    """The box of a cell with an object gets that of the squares alone."""
    output = output_of()
    gradient = jax.grad(lambda boxes: output.replace(boxes=boxes).losses(OBJECTS)["confidence"].total[0])(output.boxes)
    assert not np.asarray(gradient).any()


def test_decoding_by_hand():
    """One cell says a box of half the picture around its middle, surely; its score is the product."""
    cells = np.zeros((1, 49, 4), np.float32)
    classes, confidences, boxes = np.zeros((1, 49, 3)), np.zeros((1, 49, 2)), np.zeros((1, 49, 2, 4))
    classes[0, 24], confidences[0, 24, 1] = [0.1, 0.9, 0.2], 0.8
    boxes[0, 24, 1] = [0.5, 0.5, np.sqrt(0.5), np.sqrt(0.25)]
    arrays = (jnp.asarray(one, jnp.float32) for one in (classes, confidences, boxes))
    found = YOLOOutput(*arrays, SIZE, CELLS, Selection(0.3, 0.5, 5)).detections()
    assert found.present[0].tolist() == [True, False, False, False, False]
    np.testing.assert_allclose(found.boxes[0, 0], [35, 26.25, 105, 43.75], rtol=1e-6)
    np.testing.assert_allclose(found.scores[0, 0], 0.72, rtol=1e-6)
    assert (found.classes[0, 0], cells.shape[1]) == (1, 49)


def test_counts_are_those_published():
    model = models.create("yolov1")
    pictures = jax.ShapeDtypeStruct((1, 448, 448, 3), jnp.float32)
    output, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), pictures)
    sizes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
    }
    dense = sum(size for name, size in sizes.items() if name.startswith("fc"))
    assert (sum(sizes.values()) - dense, dense) == (60_155_968, 211_547_582)
    assert sum("conv" in name and name.endswith("kernel") for name in sizes) == 24
    assert output.candidates == 98


def test_a_grid_of_other_pictures():
    """Twice as wide, of any size that the trunk halves."""
    model = models.create("yolo_small", num_classes=2)
    output, _ = jax.eval_shape(
        model.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct((1, 64, 128, 3), jnp.float32)
    )
    assert (output.cells, output.size, output.boxes.shape) == ((4, 8), (64, 128), (1, 32, 2, 4))
