"""U-Net: parameters as published, sizes, receptive fields by position, and what it refuses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models


def count(model, side, channels=1):
    shape = jax.ShapeDtypeStruct((1, side, side, channels), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), shape)
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))


def shape(model, *sides):
    pictures = jax.ShapeDtypeStruct((1, *sides, 1), jnp.float32)
    return jax.eval_shape(lambda key, x: model.init_with_output(key, x)[0], jax.random.key(0), pictures).shape


def test_parameters_of_the_paper_whatever_the_padding():
    for padding in ("none", "zeros", "mirror"):
        assert count(models.create("unet", padding=padding), 572) == 31_030_658


def test_sizes():
    # Figure 1 of the paper, and the smallest picture.
    assert shape(models.create("unet"), 572, 572) == (1, 388, 388, 2)
    assert shape(models.create("unet", width=2), 188, 204) == (1, 4, 20, 2)
    for padding in ("zeros", "mirror"):
        assert shape(models.create("unet", width=2, padding=padding), 101, 77) == (1, 101, 77, 2)
    assert shape(models.create("unet", width=2, depth=2), 44, 48) == (1, 4, 8, 2)


def test_sizes_of_the_papers_maps():
    model = models.create("unet", width=2)
    names = [stage.name for stage in model.stages]
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 572, 572, 1), jnp.float32))
    maps = jax.eval_shape(
        lambda variables, x: model.apply(variables, x, stages=names),
        variables,
        jax.ShapeDtypeStruct((1, 572, 572, 1), jnp.float32),
    )
    assert [maps[name].shape[1] for name in names] == [568, 280, 136, 64, 28, 52, 100, 196, 388]


def test_receptive_fields_by_position():
    """The rows of a picture that a row of logits depends on: by a change of each, through positive weights alone."""
    model = models.create("unet", width=1, num_classes=1)
    # A change that is by far the largest value leaves every pool that sees it.
    pictures = jnp.ones((236, 1, 1, 1)) + 1e6 * jnp.eye(236)[:, :, None, None]
    pictures = jnp.broadcast_to(jnp.concatenate([jnp.ones((1, 236, 1, 1)), pictures]), (237, 236, 188, 1))
    variables = model.init(jax.random.key(0), pictures[:1])
    positive = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.2), variables)
    logits = jax.jit(model.apply)(positive, pictures)[:, :, 0, 0]
    seen = np.asarray(logits[1:] != logits[:1])
    sizes = [np.flatnonzero(column)[-1] - np.flatnonzero(column)[0] + 1 for column in seen.T]
    # Rows 0 to 3 stand at the border; then each run of 16 has two with the small field and 14 with the large one.
    assert set(sizes) == {188, 204}


def test_the_mirrored_border_is_numpys():
    model = models.create("unet", width=2, depth=2, padding="mirror")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(1, 30, 22, 1)), jnp.float32)
    variables = model.init(jax.random.key(0), images)
    # 30 + 2 * 20 = 70 lacks 2 of 72 = 44 + 4 * 7, and 22 + 40 = 62 lacks 2 of 64.
    padded = np.pad(images, ((0, 0), (20, 22), (20, 22), (0, 0)), mode="reflect")
    inner = model.clone(padding="none").apply(variables, jnp.asarray(padded))
    np.testing.assert_array_equal(model.apply(variables, images), inner[:, :30, :22])


@pytest.mark.parametrize(
    ("options", "sides", "message"),
    [
        ({}, (256, 572), r"pictures of height 256 came; .* takes 188 \+ 16 n, such as 268: set padding"),
        (
            {"depth": 2},
            (44, 46),
            r"pictures of width 46 came; .* takes 44 \+ 4 n, such as 48",
        ),
        ({}, (100, 188), "such as 188"),
        ({"padding": "same"}, (188, 188), "padding='same'; expected 'none', 'zeros', 'mirror'"),
    ],
)
def test_what_does_not_fit(options, sides, message):
    with pytest.raises(ValueError, match=message):
        shape(models.create("unet", width=1, **options), *sides)
