"""Positions of maps whose fields move along several axes at once, in the order of the map, against the NaN probe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from cnnjax.analysis import effective_receptive_field, grad_cam, receptive_field, top_patches
from cnnjax.analysis.invariance import equivariance_error
from cnnjax.analysis.transforms import challenges
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
    (field,) = receptive_field(function, SHAPE).outputs
    check_boxes(probe(function, SHAPE), field)
    return field


@pytest.mark.parametrize("name", STEPS)
def test_boxes_after_every_step(name):
    check_net(lambda x: conv(STEPS[name](x)))


@pytest.mark.parametrize("name", ENDS)
def test_boxes_of_every_layout(name):
    check_net(lambda x: ENDS[name](conv(x, strides=(1, 2))))


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4), st.sampled_from(sorted(ENDS)))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_boxes_of_random_nets(steps, end):
    def function(x):
        for step in steps:
            x = STEPS[step](x)
        return ENDS[end](x)

    try:
        jax.eval_shape(function, jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    except (TypeError, ValueError):
        return  # a map that cannot be cut so
    check_net(function)
