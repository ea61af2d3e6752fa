"""What is known of pictures: which fit others, and which are refused, told why."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.data.pictures.pixels import Pixels, kind_of


def of(dtype, low, high):
    return Pixels(dtype, low, high, (0.5,), (0.25,))


SCALES = {
    "bytes": of("uint8", 0, 255),
    "to 1": of("float32", 0.0, 1.0),
    "to 255": of("float32", 0.0, 255.0),
    "around 0": of("float32", -2.1, 2.6),
}
LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
GIVEN = {
    "bytes": LEVELS,
    "to 1": LEVELS / 255,
    "half precision": (LEVELS / 255).astype(np.float16),
    "bfloat16": jnp.asarray(LEVELS / 255, jnp.bfloat16),
    "a little beyond 1": LEVELS / 255 * 1.0005,
    "to 255": LEVELS.astype(np.float64),
    "around 0": LEVELS / 50 - 2.1,
    "to 65535": 257.0 * LEVELS,
    "black": np.zeros((1, 2, 2, 1)),
    "nothing": np.zeros((0, 2, 2, 1)),
}
FIT = {
    "bytes": {"bytes", "to 1", "half precision", "bfloat16", "a little beyond 1", "black", "nothing"},
    "to 1": {"bytes", "to 1", "half precision", "bfloat16", "a little beyond 1", "black", "nothing"},
    "to 255": {"to 255", "around 0", "black", "nothing"},
    "around 0": {"to 1", "half precision", "bfloat16", "a little beyond 1", "around 0", "black", "nothing"},
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("scale", SCALES)
def test_pictures_that_cannot_be_meant_are_refused(scale, given):
    if given in FIT[scale]:
        SCALES[scale].check(GIVEN[given])
        return
    with pytest.raises(ValueError, match=r"pictures (are uint8|have values from .* to .*); expected"):
        SCALES[scale].check(GIVEN[given])


def test_values_are_looked_at_where_they_are_known():
    """Under `jit` those of an argument are not, and those of an array from outside are."""
    jax.jit(lambda x: SCALES["bytes"].check(x))(jnp.full((1, 2, 2, 1), 255.0))
    with pytest.raises(ValueError, match="values from 255 to 255; expected bytes"):
        jax.jit(lambda: SCALES["bytes"].check(np.full((1, 2, 2, 1), 255.0)))()
    with pytest.raises(
        ValueError, match=r"pictures are uint8; expected floats like those of training, which go from -2\.1"
    ):
        jax.eval_shape(SCALES["around 0"].check, jax.ShapeDtypeStruct((1, 2, 2, 1), jnp.uint8))


def test_axes():
    for shape in ((2, 2, 1), (1, 2, 2, 3), (1, 2, 2)):
        with pytest.raises(ValueError, match=r"expected \(batch, height, width, 1\), and a batch axis for one"):
            SCALES["bytes"].check(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("dtype", "cure"),
    [
        (bool, r"astype\(np\.float32\)"),
        (np.int64, r"astype\(np\.uint8\)"),
        (np.uint16, "images / 65535"),
        (complex, ""),
    ],
    ids=str,
)
def test_other_numbers_are_told_with_the_cure(dtype, cure):
    with pytest.raises(
        ValueError, match=rf"images are {np.dtype(dtype)}; expected uint8 from 0 to 255, or floats.*{cure}"
    ):
        kind_of("images", np.zeros(3, dtype))


def test_kinds():
    assert kind_of("images", LEVELS) == kind_of("images", jnp.asarray(LEVELS)) == "uint8"
    assert kind_of("images", [0.5]) == kind_of("images", jnp.ones(2, jnp.bfloat16)) == "float32"


@pytest.mark.parametrize(
    "values",
    [
        ("float32", 1.0, 0.0, (0.5,), (1.0,)),
        ("float32", 0.0, np.inf, (0.5,), (1.0,)),
        ("float32", 0.0, 1.0, (np.nan,), (1.0,)),
        ("float32", 0.0, 1.0, (0.5,), (0.0,)),
        ("float32", 0.0, 1.0, (0.5,), (1.0, 1.0)),
        ("float32", 0.0, 1.0, (), ()),
    ],
    ids=["order", "infinite", "nan", "no deviation", "channels", "none"],
)
def test_numbers_of_no_pictures_are_refused(values):
    with pytest.raises(ValueError, match="of no pictures; expected finite numbers"):
        Pixels(*values)
