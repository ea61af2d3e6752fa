"""Centres both ways, positions that see padding, the field of one position: by hand and by the published formula."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cnnjax.analysis import receptive_field
from cnnjax.functional import correlate


def conv(x, size=3, **options):
    return correlate(x, jnp.ones((size,) * (x.ndim - 2) + (x.shape[-1], 1)), **options)


def two_strides(x):
    return conv(conv(x, 5, strides=2, padding=[(2, 2)] * 2), 3, strides=2, padding=[(1, 1)] * 2)


FIELD = receptive_field(two_strides, (1, 16, 24, 1)).outputs[0]


def test_centres_are_those_of_the_formula():
    # Araujo et al. (2019): -P + u S + (r - 1) / 2, with r = 5 + 2 * 2 = 9, S = 4, P = 2 + 2 * 1 = 4.
    assert (FIELD.size, FIELD.stride, FIELD.start) == ((9, 9), (4, 4), (-4, -4))
    np.testing.assert_array_equal(FIELD.axes[0].centres, -4 + 4 * np.arange(4) + 4)
    assert FIELD.centre((1, 5)) == (4.0, 20.0)


def test_position_at_inverts_centre():
    for position in np.ndindex(4, 6):
        assert FIELD.position_at(FIELD.centre(position)) == position
    assert FIELD.position_at((5.9, 100)) == (1, 5)
    assert FIELD.position_at((2, 2)) == (0, 0)  # as near to both


def test_boxes_of_positions():
    assert FIELD.box((0, 3)) == ((-4, 4), (8, 16))
    assert FIELD.box((0, 3), exact=True) == ((0, 4), (8, 16))
    assert FIELD.box() == FIELD.box((2, 3))


def test_positions_that_see_padding():
    # Rows -4..4, 0..8, 4..12, 8..16 on 16 pixels: the first and the last.
    assert FIELD.axes[0].sees_padding.tolist() == [True, False, False, True]
    assert FIELD.axes[1].sees_padding.tolist() == [True, *[False] * 4, True]
    # Of 4 x 6 positions 2 x 4 see none.
    assert FIELD.padding_share == pytest.approx(1 - 8 / 24)
    assert receptive_field(lambda x: conv(x, padding="VALID"), (1, 9, 1)).outputs[0].padding_share == 0


def test_centres_between_pixels_and_of_nothing():
    (even,) = receptive_field(lambda x: conv(x, 2, padding="VALID"), (1, 4, 1)).outputs
    assert even.axes[0].centres.tolist() == [0.5, 1.5, 2.5]
    (padded,) = receptive_field(lambda x: conv(x, 1, padding=[(0, 0)]).at[:, :2].set(0.0), (1, 4, 1)).outputs
    np.testing.assert_array_equal(padded.axes[0].centres, [np.nan, np.nan, 2, 3])
    assert padded.box((0,)) == ((0, -1),)
    assert padded.position_at((0,)) == (2,)


def test_a_pooled_vector_has_one_field():
    (pooled,) = receptive_field(lambda x: conv(x).mean((1, 2)), (1, 6, 8, 1)).outputs
    assert pooled.box() == pooled.box((0, 0)) == ((-1, 6), (-1, 8))
    assert pooled.stride == (None, None)


def test_strides_of_upsampled_maps_have_centres_half_a_pixel_apart():
    (field,) = receptive_field(lambda x: lax.conv_transpose(x, jnp.ones((2, 1, 1)), (2,), "VALID"), (1, 3, 1)).outputs
    assert field.axes[0].centres.tolist() == [0, 0, 1, 1, 2, 2]


def test_it_is_shown_in_a_line():
    assert repr(FIELD) == f"LayerField({FIELD.name!r}, shape=(1, 4, 6, 1), size=9, stride=4, axes=2)"
    assert repr(FIELD.axes[1]) == "AxisField(size=9, stride=4, start=-4, extent=24)"
    assert repr(FIELD.axes[1].reach) == "Reach(shape=(1, 1, 6, 1), axis=2, stride=4)"
    fields = repr(receptive_field(two_strides, (1, 16, 24, 1)))
    assert fields == "ReceptiveFields(input_shape=(1, 16, 24, 1), 2 layers); print it for the table"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FIELD.box((1,)), r"position=\(1,\); .* has 2 spatial axes"),
        (lambda: FIELD.centre((4, 0)), r"position=\(4, 0\); .* has 4 positions along axis 0"),
        (lambda: FIELD.box((0, -1)), "has 6 positions along axis 1"),
        (lambda: FIELD.position_at((1, 2, 3)), r"pixel=\(1, 2, 3\); expected 2 numbers"),
    ],
    ids=["axes", "beyond", "negative", "pixel"],
)
def test_bad_positions(call, message):
    with pytest.raises(ValueError, match=message):
        call()
