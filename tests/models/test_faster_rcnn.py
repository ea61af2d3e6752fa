"""Faster R-CNN: levels and anchors of both forms, errors, and that a picture's size is free."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.analysis.receptive_field import fields_of
from cnnjax.analysis.tracing import trace
from cnnjax.models.faster_rcnn import _caffe, _pyramid


def shapes(name, height, width, **options):
    model = models.create(name, num_classes=3, **options)
    return jax.eval_shape(
        model.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    )


@pytest.mark.parametrize("name", ["faster_rcnn_small", "faster_rcnn_vgg_small"])
def test_pictures_of_any_size(name):
    for height, width in ((64, 96), (100, 70)):
        output, _ = shapes(name, height, width)
        assert output.logits.shape == (2, 100, 4)
        assert output.detections().boxes.shape == (2, 100, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strides": (4, 8)}, r"anchor_sizes=\(16, 32, 64, 112\) came for 2 strides; expected one for each level"),
        ({"strides": (2, 8, 16)}, r"strides=\(2, 8, 16\); expected each to be twice the one before"),
        ({"strides": (8, 16, 32)}, r"backbone='vgg11' has no stage of stride 32, which FasterRCNNPyramid needs"),
    ],
    ids=["number", "steps", "trunk"],
)
def test_levels_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        shapes("faster_rcnn_small", 64, 64, **options)


@pytest.mark.parametrize(
    ("name", "sizes"), [("faster_rcnn_small", (16, 32, 64, 112)), ("faster_rcnn_vgg_small", (32, 64, 112))]
)
def test_anchors_may_be_square(name, sizes):
    """One at each place of a level, or of each scale, where faces are to be found."""
    _, variables = shapes(name, 64, 96, anchor_ratios=(1.0,))
    per_place = 1 if name == "faster_rcnn_small" else 3
    assert variables["params"]["rpn"]["box"]["kernel"].shape[-1] == 4 * per_place
    if name == "faster_rcnn_small":
        found = _pyramid(((16, 24), (8, 12), (4, 6), (2, 3)), sizes, (1.0,), (64, 96))
    else:
        found = [_caffe((8, 12), 8, (1.0,), (4, 8, 14))]
    sides = np.concatenate([level[:, 2:] - level[:, :2] for level in found])
    np.testing.assert_array_equal(sides[:, 0], sides[:, 1])
    assert set(sides[:, 0].tolist()) == set(sizes)


@pytest.mark.usefixtures("unchecked_types")
def test_each_level_sees_more():
    """What the anchors of a level rest on: the fields of the pyramid's maps, which the top-down path makes as large."""
    model = models.create("faster_rcnn_small", num_classes=3)
    fields = fields_of(trace(model, (1, 256, 256, 3)))
    lateral = [fields[f"fpn/lateral{level}"].size[0] for level in (1, 2, 3)]
    # VGG-11 after its third to fifth stage, by hand: a 3x3 convolution adds twice its stride, a 2x2 pool once.
    third = 1 + 2 + 1 + 4 + 2 + 8 + 8
    fourth = third + 4 + 16 + 16
    assert lateral == [third, fourth, fourth + 8 + 32 + 32]
    assert [fields[f"fpn/smooth{level}"].stride[0] for level in (1, 2, 3)] == [4, 8, 16]


def test_two_anchors_of_a_place_are_those_of_caffe():
    """The paper's nine, 608x1008 over 16: 38 x 63 places."""
    model = models.create("faster_rcnn_vgg16", num_classes=3)
    output, variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), jax.ShapeDtypeStruct((1, 608, 1008, 3), jnp.float32)
    )
    assert variables["params"]["rpn"]["objectness"]["kernel"].shape == (1, 1, 512, 18)
    assert variables["params"]["rpn"]["box"]["kernel"].shape == (1, 1, 512, 36)
    assert output.candidates == 300
    assert np.prod(variables["params"]["box_head"]["fc6"]["kernel"].shape) == 49 * 512 * 4096
