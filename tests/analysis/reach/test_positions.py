"""Positions of maps whose fields move along several axes at once, in the order of the map, against the NaN probe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from jax import lax

from cnnjax.analysis import effective_receptive_field, grad_cam, receptive_field, top_patches
from cnnjax.analysis.changes import rotation
from cnnjax.analysis.invariance import equivariance_error
from cnnjax.functional import correlate, max_pool
from tests.analysis.probes import probe

SHAPE = (1, 6, 6, 2)
ROWS, COLUMNS = np.meshgrid(np.arange(6), np.arange(6), indexing="ij")


def conv(x, size=3, features=2, **options):
    return correlate(x, jnp.ones((*[size] * (x.ndim - 2), x.shape[-1], features)), **options)


def blank(x, top=1, left=2, size=2):
    return x.at[:, top : top + size, left : left + size].set(0.0)


def canvas(x, top=1, left=2):
    n, rows, columns, channels = x.shape
    empty = jnp.zeros((n, rows + 3, columns + 3, channels))
    return empty.at[:, top : top + rows, left : left + columns].set(x)


def in_line(x):
    """A 1-D convolution over the rows, one after the other."""
    n, rows, columns, channels = x.shape
    return conv(x.reshape(n, rows * columns, channels)).reshape(n, rows, columns, 2)


def windows(x, size=2):
    """Windows side by side along the batch, their pixels in line."""
    n, rows, columns, channels = x.shape
    apart = x.reshape(n, rows // size, size, columns // size, size, channels).transpose(0, 1, 3, 2, 4, 5)
    return apart.reshape(-1, size * size, channels)


def together(x, rows=6, size=2):
    """The windows put back."""
    across = rows // size
    return x.reshape(-1, across, across, size, size, x.shape[-1]).transpose(0, 1, 3, 2, 4, 5).reshape(-1, rows, rows, 2)


def rows_by_themselves(x):
    """A convolution over every row, one turn of a loop each."""
    return jnp.moveaxis(lax.map(conv, jnp.moveaxis(x, 1, 0)), 0, 1)


# What is done to maps of rows, columns and channels; what gives others stands at the end of a net.
STEPS = {
    "conv": conv,
    "pool": lambda x: max_pool(x, 2, strides=1, padding="SAME"),
    "blank": blank,
    "another blank": lambda x: blank(x, 0, 0, 3),
    "canvas": canvas,
    "added canvas": lambda x: x.at[:, 1:, :-1].add(conv(x)[:, :-1, 1:]),
    "in line": in_line,
    "transposed": lambda x: x.swapaxes(1, 2),
    "turned": lambda x: jnp.rot90(x, axes=(1, 2)),
    "sheared": lambda x: x[:, ROWS % x.shape[1], (ROWS + COLUMNS) % x.shape[2]],
    "chosen pairs": lambda x: x[:, COLUMNS[:, :4] % x.shape[1], ROWS[:, :4] % x.shape[2]],
    "cut anew": lambda x: x.reshape(x.shape[0], -1, x.shape[1] // 2 or 1, x.shape[3]),
    "by a mask": lambda x: jnp.where(np.indices(x.shape[1:3]).sum(0)[None, ..., None] % 3 == 0, x, conv(x)),
    "a row at a time": rows_by_themselves,
    "with its own transpose": lambda x: x + conv(x[:, : min(x.shape[1:3]), : min(x.shape[1:3])]).swapaxes(1, 2).mean(),
}
ENDS = {
    "as it is": lambda x: x,
    "channels first": lambda x: jnp.moveaxis(x, -1, 1),
    "tokens": lambda x: x.reshape(x.shape[0], -1, x.shape[-1]),
    "tokens, channels first": lambda x: jnp.moveaxis(x, -1, 1).reshape(x.shape[0], x.shape[-1], -1),
    "flat": lambda x: x.reshape(x.shape[0], -1),
    "rows": lambda x: x.mean(2),
    "pooled": lambda x: x.mean((1, 2)),
    "batch and rows in line": lambda x: x.reshape(-1, x.shape[2], x.shape[3]),
    "rows first": lambda x: jnp.moveaxis(x, 0, 1),
}


def check_boxes(hit, field):
    """That the box of every position is the extent of what reaches it, of all channels and examples together."""
    pixels = len(field.axes)
    assert field.shape == hit.shape[pixels:]
    others = tuple(pixels + axis for axis in range(len(field.shape)) if axis not in field.position_axes)
    reached = hit.any(axis=others)
    assert reached.shape[pixels:] == field.positions
    for position in np.ndindex(*field.positions):
        seen = np.argwhere(reached[(..., *position)])
        expected = tuple(zip(seen.min(0), seen.max(0), strict=True)) if len(seen) else ((0, -1),) * pixels
        assert field.box(position, exact=True) == expected, position
    for axis, count in enumerate(field.positions):
        beyond = [0] * len(field.positions)
        for beyond[axis] in (-1, count):
            with pytest.raises(ValueError, match=f"{count} positions along axis {axis}"):
                field.box(beyond)


def check_net(function):
    (field,) = receptive_field(function, SHAPE, gates=True).outputs
    check_boxes(probe(function, SHAPE), field)
    return field


@pytest.mark.parametrize("name", STEPS)
def test_boxes_after_every_step(name):
    check_net(lambda x: conv(STEPS[name](x)))


@pytest.mark.parametrize("name", ENDS)
def test_boxes_of_every_layout(name):
    check_net(lambda x: ENDS[name](conv(x, strides=(1, 2))))


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4), st.sampled_from(sorted(ENDS)))
@settings(max_examples=16, deadline=None, derandomize=True)
def test_boxes_of_random_nets(steps, end):
    def function(x):
        for step in steps:
            x = STEPS[step](x)
        return ENDS[end](x)

    try:
        jax.eval_shape(function, jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    except (TypeError, ValueError):
        reject()  # a map that cannot be cut so: another net is drawn
    check_net(function)


def field_of(function, shape=(1, 12, 12, 1)):
    (field,) = receptive_field(function, shape).outputs
    return field


def test_a_blanked_block():
    field = field_of(lambda x: blank(x, 5, 5, 4))
    assert field.box((1, 0)) == ((1, 1), (0, 0))
    assert field.box((6, 7)) == ((0, -1), (0, -1))
    assert (field.stride, field.centre((11, 3)), field.position_at((3, 3))) == ((1, 1), (11.0, 3.0), (3, 3))
    assert np.isnan(field.centre((5, 5))).all()
    # The nearest that sees anything, and the middle likewise: of the block of rows and columns 5 to 8 the border.
    assert field.position_at((6, 5.9)) == (6, 4)
    assert field.middle == (4, 6)
    assert field.box() == ((4, 4), (6, 6))
    # Of 12 x 12 positions none sees padding; of a 3x3 after it 44 do, and the four in the middle see nothing.
    after = field_of(lambda x: conv(blank(x, 5, 5, 4)))
    assert after.box((10, 2)) == ((9, 11), (1, 3))
    assert after.box((0, 11)) == ((-1, 1), (10, 12))
    assert (field.padding_share, after.padding_share) == (0, 44 / 144)


def test_a_canvas():
    field = field_of(lambda x: jnp.zeros((1, 20, 20, 1)).at[:, 4:16, 4:16].set(x))
    assert field.box((5, 6)) == ((1, 1), (2, 2))
    assert field.position_at((0, 11)) == (4, 15)
    assert (field.stride, field.start, field.size, field.middle) == ((1, 1), (0, 0), (1, 1), (10, 10))


def test_rows_in_line():
    field = field_of(in_line)
    assert field.box((1, 0), exact=True) == ((0, 1), (0, 11))
    assert field.box((1, 5)) == ((1, 1), (4, 6))
    # One row, or two where the row ends.
    assert (field.axes[0].smallest, field.axes[0].size, field.stride) == (1, 2, (1, 1))
    tokens = field_of(lambda x: x.reshape(1, 144, 1))
    assert (tokens.position_axes, tokens.positions) == ((1,), (144,))
    assert tokens.box((25,)) == ((2, 2), (1, 1))
    assert tokens.position_at((2, 1)) == (25,)


def test_positions_are_in_the_order_of_the_map():
    def transposed(x):
        return conv(x, strides=(1, 2)).swapaxes(1, 2)

    field = field_of(transposed, (1, 6, 8, 1))
    assert (field.shape, field.positions, field.stride) == ((1, 4, 6, 2), (4, 6), (1, 2))
    # The third column and the sixth row of the picture's: SAME pads 8 columns by (0, 1) at stride 2.
    assert field.box((2, 5)) == ((4, 6), (4, 6))
    assert field.box((2, 5), exact=True) == ((4, 5), (4, 6))
    assert (field.centre((2, 5)), field.position_at((5, 5))) == ((5.0, 5.0), (2, 5))
    with pytest.raises(ValueError, match="4 positions along axis 0"):
        field.box((5, 2))
    with pytest.raises(ValueError, match=r"along the picture's rows and columns \(here along axes 2 and 1\)"):
        field.check_rows_and_columns()
    first = field_of(lambda x: jnp.moveaxis(conv(x), -1, 1), (1, 6, 8, 1))
    assert (first.position_axes, first.positions) == ((2, 3), (6, 8))
    assert first.box((2, 5)) == ((1, 3), (4, 6))


def test_layers_without_positions_along_every_axis():
    rows = field_of(lambda x: conv(x).mean(2), (1, 6, 8, 1))
    assert (rows.positions, rows.box((0,))) == ((6,), ((-1, 1), (-1, 8)))
    kept = field_of(lambda x: conv(x).mean(2, keepdims=True), (1, 6, 8, 1))
    assert (kept.positions, kept.box((5, 0))) == ((6, 1), ((4, 6), (-1, 8)))
    flat = field_of(lambda x: x.reshape(1, -1), (1, 6, 8, 2))
    assert (flat.positions, flat.box((9,)), flat.stride) == ((96,), ((0, 0), (4, 4)), (None, None))
    pooled = field_of(lambda x: conv(x).mean((1, 2)), (1, 6, 8, 1))
    assert pooled.positions == pooled.position_at((3, 3)) == ()
    assert pooled.box(()) == pooled.box((0, 0)) == ((-1, 6), (-1, 8))
    for wrong in ((1, 0), (0,), (0, 0, 0)):
        with pytest.raises(ValueError, match="0 spatial axes"):
            pooled.box(wrong)
    blind = field_of(lambda x: (x * 1.0).at[:].set(0.0) + 0 * x.at[:].set(0.0))
    with pytest.raises(ValueError, match="sees anything"):
        blind.position_at((3, 3))


def test_gates_are_what_has_no_position():
    def function(x):
        return conv(x) * blank(conv(x, 5)) * conv(x).mean((1, 2), keepdims=True)

    (field,) = receptive_field(function, (1, 12, 12, 1)).outputs
    assert (field.size, field.box((8, 8))) == ((5, 5), ((6, 10), (6, 10)))


def test_a_canvas_is_explained_as_padding_is():
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 12, 12, 1)), jnp.float32)
    kernel = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 1, 4)), jnp.float32)
    empty = jnp.zeros((2, 20, 20, 1))

    def net(place):
        def function(x):
            with jax.named_scope("maps"):
                maps = correlate(place(x), kernel)
            return jax.nn.relu(maps).mean((1, 2))

        return function

    nets = net(lambda x: empty.at[:, 4:16, 4:16].set(x)), net(lambda x: jnp.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0))))
    np.testing.assert_allclose(*(grad_cam(each, x, jnp.array([0, 1])) for each in nets), rtol=1e-5, atol=1e-7)
    tops = [top_patches(each, x, layer="maps", count=1).patches for each in nets]
    for patch, other in zip(*tops, strict=True):
        assert patch.position == other.position
        assert patch.value == pytest.approx(other.value, rel=1e-6)
    moved = [
        equivariance_error(jax.random.key(0), lambda x, place=place: conv(place(x)), x, rotation(10.0), 10.0)
        for place in (lambda x: empty.at[:, 4:16, 4:16].set(x), lambda x: jnp.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0))))
    ]
    assert moved[0] == pytest.approx(moved[1], rel=1e-5)


def test_effective_fields_take_positions_of_the_map():
    x = jnp.ones((1, 9, 11, 1))
    found = effective_receptive_field(lambda x: conv(x).swapaxes(1, 2), x, position=(7, 2))
    rows, columns = np.nonzero(found.gradient[..., :])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 3, 6, 8)
    assert found.rows()[0]["position"] == "7,2"
