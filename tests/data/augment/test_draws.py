"""Keys, ranges and scales: what is drawn depends on the key and the id alone, and what is no range is an error."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from cnnjax.data.augment import draws

KEY = jax.random.key(5)


def test_a_key_is_that_of_its_id_wherever_it_stands():
    ids = jnp.asarray([7, 3, 900_000, 0], jnp.int32)
    keys = draws.keys_for(KEY, ids)
    for place in range(4):
        alone = jax.random.fold_in(KEY, ids[place])
        assert (jax.random.key_data(keys[place]) == jax.random.key_data(alone)).all()
    turned = draws.keys_for(KEY, ids[::-1])
    np.testing.assert_array_equal(jax.random.key_data(turned), jax.random.key_data(keys)[::-1])


def test_one_key_makes_one_per_image_and_keys_stay():
    images = jnp.zeros((6, 2, 2, 1))
    keys = draws.image_keys(KEY, images)
    assert keys.shape == (6,)
    assert len(np.unique(jax.random.key_data(keys), axis=0)) == 6
    assert draws.image_keys(keys, images) is keys
    assert draws.split_each(keys, 3).shape == (3, 6)


def test_uniform_draws_are_independent_and_fill_their_interval():
    keys = jax.random.split(KEY, 400)
    numbers = np.asarray(draws.uniform(keys, (-2.0, 6.0), shape=(3,)))
    assert numbers.shape == (400, 3)
    assert -2 <= numbers.min() < -1.9
    assert 5.9 < numbers.max() < 6
    np.testing.assert_allclose(numbers.mean(0), 2, atol=0.5)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(3)).max() < 0.2


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        (3, {}, (-3, 3)),
        ((1.5, 2), {}, (1.5, 2)),
        (0.4, {"around": 1.0, "lowest": 0.0, "cut": True}, (0.6, 1.4)),
        (1.5, {"around": 1.0, "lowest": 0.0, "cut": True}, (0, 2.5)),
        (0, {"around": 1.0}, (1, 1)),
    ],
)
def test_intervals(value, options, expected):
    assert draws.interval_of("strength", value, **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1.0, "turns=-1.0; expected a number of 0 or more"),
        (float("nan"), "turns=nan"),
        ((0.3, 0.1), "in order, within -0.5 to 0.5"),
        ((0.0, 0.6), "within -0.5 to 0.5"),
        ((0.0, float("nan")), "in order"),
        (0.7, "turns=0.7; expected low to high"),
    ],
)
def test_what_is_no_interval(value, message):
    with pytest.raises(ValueError, match=message):
        draws.interval_of("turns", value, lowest=-0.5, highest=0.5)


def test_bytes_and_unit_scale():
    levels = np.arange(256).astype(np.uint8).reshape(1, 16, 16, 1)
    unit = draws.to_unit(jnp.asarray(levels))
    np.testing.assert_allclose(unit, levels / 255, atol=1e-7)
    np.testing.assert_array_equal(draws.from_unit(unit, jnp.uint8), levels)
    outside = jnp.asarray([-0.2, 0.4999, 1.7])
    np.testing.assert_array_equal(draws.from_unit(outside, jnp.uint8), [0, 127, 255])
    np.testing.assert_allclose(draws.from_unit(outside, jnp.float32), [0, 0.4999, 1])


def test_fill_is_a_number_or_one_per_channel():
    np.testing.assert_allclose(draws.fill_of(0.5, 2), [0.5, 0.5])
    np.testing.assert_allclose(draws.fill_of((0.1, 0.2, 0.3), 3), [0.1, 0.2, 0.3])
    for fill in (1.5, float("nan"), (0.1, 0.2)):
        with pytest.raises(ValueError, match=r"fill=.*one for each of 3 channels"):
            draws.fill_of(fill, 3)


def test_errors_at_the_door(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    images = jnp.zeros((2, 4, 4, 2))
    for call, message in (
        (lambda: draws.check_images(images[0]), r"\(4, 4, 2\); expected \(batch, height, width, channels\)"),
        (lambda: draws.check_images(images.astype(jnp.int32)), "images are int32; expected uint8"),
        (lambda: draws.check_images(images, colour=True), "2 channels; expected 1, grey, or 3"),
        (lambda: draws.image_keys(jax.random.split(KEY, 3), images), r"key has shape \(3,\); .* each of 2 images"),
        (lambda: draws.image_keys(jnp.zeros(2, jnp.uint32), images), "expected a typed key"),
        (lambda: draws.keys_for(jax.random.split(KEY, 2), jnp.arange(2)), "expected one key"),
        (lambda: draws.keys_for(KEY, jnp.zeros(2)), "ids are float32"),
        (lambda: draws.check_number("probability", 1.2, 0, 1, "of a flip"), "probability=1.2; expected 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
