"""The flow in two stages: losses of masks by hand, scores, and training without objects."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.models.parts.proposals import Regions
from cnnjax.models.parts.two_stage import DrawnMasks, TwoStageOutput


def test_the_loss_of_masks_is_the_mean_over_pixels():
    logits = jnp.asarray([[[[0.0, np.log(3.0)]], [[4.0, 4.0]]]])
    targets = jnp.asarray([[[[1.0, 0.5]], [[0.0, 0.0]]]])
    part = DrawnMasks(logits, targets, jnp.asarray([[True, False]])).loss()
    expected = (np.log(2) - 0.5 * np.log(0.75) - 0.5 * np.log(0.25)) / 2
    np.testing.assert_allclose(part.total, expected, rtol=1e-6)
    assert part.count.item() == 1.0


def test_scores_of_classes_are_those_of_the_surest_region():
    logits = jnp.asarray([[[0.0, 1.0, 5.0], [1.0, 4.0, 0.0], [0.0, 9.0, 9.0]]])
    regions = Regions(jnp.zeros((1, 3, 4)), jnp.asarray([[True, True, False]]))
    empty = models.Detections(*(jnp.zeros((1, 0)) for _ in range(4)))
    output = TwoStageOutput(regions, logits, jnp.zeros((1, 3, 3, 4)), empty)
    assert output.class_scores().tolist() == [[3.0, 5.0]]
    assert output.candidates == 3


def test_training_needs_objects():
    model = models.create("faster_rcnn_small", num_classes=2)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    with pytest.raises(ValueError, match=r"called with train=True and pictures alone; .*models.PicturesWithObjects"):
        jax.eval_shape(lambda images: model.init(jax.random.key(0), images, train=True), images)
