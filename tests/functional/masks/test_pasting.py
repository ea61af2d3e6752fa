"""Masks in their boxes: equal to torchvision's and detectron2's, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.functional import masks
from tests.functional.masks.torch_goldens import FILE, SIZE, draw

GOLDENS = np.load(FILE)


@pytest.mark.parametrize("rule", ["integer", "float"])
def test_it_is_the_reference(rule):
    small, boxes = draw()
    found = jax.jit(lambda *arrays: masks.paste(*arrays, SIZE, rule=rule))(small, boxes)
    expected = GOLDENS[rule]
    assert expected.shape == (len(boxes), *SIZE)
    assert expected.max() > 0.9
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    # The pixels of the mask, but where the probability is within rounding of the threshold.
    sure = np.abs(expected - 0.5) > 2e-5
    np.testing.assert_array_equal((found >= 0.5)[sure], (expected >= 0.5)[sure])


def test_half_a_pixel_by_hand():
    # Of 2 cells on 4 pixels, the middles lie at cells -0.25, 0.25, 0.75 and 1.25.
    row = jnp.asarray([[[0.0, 1.0]]])
    box = jnp.asarray([[0.0, 0.0, 4.0, 1.0]])
    np.testing.assert_allclose(masks.paste(row, box, (1, 4), rule="float")[0, 0], [0, 0.25, 0.75, 0.75])


def test_the_rules_differ_by_a_pixel():
    whole, box = jnp.ones((1, 28, 28)), jnp.asarray([[2.0, 2.0, 8.0, 8.0]])
    counts = {rule: int((masks.paste(whole, box, (12, 12), rule=rule) >= 0.5).sum()) for rule in ("float", "integer")}
    # Enlarged by 30 / 28 the box is (1.79, 1.79, 8.21, 8.21): pixels 1 to 8, both included. The middle of pixel 1 lies
    # at 1/16 of 30 cells, within the mask: the frame of zeros is one cell wide.
    assert counts == {"float": 36, "integer": 64}


@pytest.mark.parametrize("rule", ["integer", "float"])
def test_odd_boxes_stay_finite(rule):
    boxes = jnp.asarray(
        [[3.0, 3.0, 3.0, 3.0], [5.0, 5.0, 2.0, 2.0], [-90.0, -90.0, -80.0, -80.0], [0.0, 0.0, 0.0, 0.0]]
    )
    found = masks.paste(jnp.ones((4, 28, 28)), boxes, (9, 9), rule=rule)
    assert np.isfinite(found).all()
    assert not found[2].any()
    empty = masks.paste(jnp.ones((1, 28, 28)), jnp.full((1, 4), jnp.nan), (9, 9), rule="float")
    assert not empty.any()
    assert masks.paste(jnp.ones((0, 28, 28)), jnp.ones((0, 4)), (9, 9), rule=rule).shape == (0, 9, 9)


def test_no_shape_depends_on_the_boxes():
    traces = []

    @jax.jit
    def pasted(small, boxes):
        traces.append(small.shape)
        return masks.paste(small, boxes, SIZE, rule="integer")

    small, boxes = draw()
    for shift in (0, 5, 11):
        pasted(small, boxes + np.float32(shift))
    assert len(traces) == 1


def test_gradients_reach_the_masks_and_are_finite():
    small, boxes = (jnp.asarray(array) for array in draw())
    gradients = jax.grad(lambda *arrays: masks.paste(*arrays, SIZE, rule="float").sum(), argnums=(0, 1))(small, boxes)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    assert np.abs(gradients[0][0]).max() > 0.5


@pytest.mark.usefixtures("unchecked_types")
def test_bad_input_is_told():
    small, boxes = (jnp.asarray(array) for array in draw())
    with pytest.raises(ValueError, match="floating point was expected"):
        masks.paste(small > 0.5, boxes, SIZE, rule="float")
    with pytest.raises(ValueError, match="a box for each mask"):
        masks.paste(small, boxes[:3], SIZE, rule="float")
    with pytest.raises(ValueError, match="use vmap for a batch"):
        masks.paste(small[None], boxes, SIZE, rule="float")
    with pytest.raises(ValueError, match="rule='detectron2'; expected 'float' or 'integer'"):
        masks.paste(small, boxes, SIZE, rule="detectron2")
