"""Rules of single primitives against the NaN probe and against derivatives; kinds of function; resizing."""

from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from cnnjax.analysis import receptive_field
from cnnjax.functional import avg_pool, correlate, max_pool
from tests.analysis.probes import check_against, derivatives, probe

CHOSEN = np.array([7, 0, 3, 3])
MASK = np.arange(9)[:, None] % 3 == 0


def conv(x, size=3, **options):
    return correlate(x, jnp.ones((size,) * (x.ndim - 2) + (x.shape[-1], 2)), **options)


def attention(x):
    n, h, w, c = x.shape
    tokens = x.reshape(n, h * w, c)
    scores = jnp.einsum("bqc,bkc->bqk", tokens, tokens)
    return jnp.einsum("bqk,bkc->bqc", nn.softmax(scores), tokens).reshape(x.shape)


MOVES = {
    "chosen rows": lambda x: conv(x)[:, CHOSEN],
    "chosen rows, then a window": lambda x: conv(x[:, CHOSEN]),
    "rows and columns chosen together": lambda x: conv(x)[:, CHOSEN, CHOSEN[::-1]],
    "a grid of chosen rows and columns": lambda x: conv(x)[:, CHOSEN[:, None], CHOSEN[None]],
    "columns beyond the picture are filled": lambda x: x.at[:, :, np.array([1, 40])].get(mode="fill", fill_value=0.0),
    "columns beyond the picture are clipped": lambda x: x.at[:, :, np.array([1, 40])].get(mode="clip"),
    "taken by position": lambda x: jnp.take(conv(x), CHOSEN, axis=2),
    "dynamic slice with a known start": lambda x: lax.dynamic_slice_in_dim(conv(x), jnp.int32(2) + 1, 4, 1),
    "written into": lambda x: lax.dynamic_update_slice(jnp.zeros((1, 9, 8, 2)), conv(x)[:, :3], (0, 4, 0, 0)),
    "rows set": lambda x: conv(x).at[:, CHOSEN[:3]].set(conv(x, 1)[:, :3]),
    "rows set in zeros": lambda x: jnp.zeros((1, 9, 8, 2)).at[:, CHOSEN[:3]].set(conv(x)[:, :3]),
    "rows added": lambda x: conv(x, 1).at[:, CHOSEN].add(conv(x)[:, :4]),
    "rows taken away": lambda x: conv(x, 1).at[:, CHOSEN].subtract(conv(x)[:, :4]),
    "the greater of rows": lambda x: conv(x, 1).at[:, CHOSEN].max(conv(x)[:, :4]),
    "chosen by a known mask": lambda x: jnp.where(MASK[None, ..., None], conv(x, 1), conv(x, 5)),
    "chosen by a known constant": lambda x: jnp.where(jnp.arange(3).sum() > 2, conv(x, 1), conv(x, 5)),
    "masked by a known mask": lambda x: jnp.where(MASK[None, ..., None], conv(x), 0.0),
    "tiled": lambda x: jnp.tile(conv(x), (1, 2, 1, 1)),
    "rolled": lambda x: jnp.roll(conv(x), 2, 1),
    "running sum": lambda x: jnp.cumsum(conv(x), 1),
    "running greatest from the end": lambda x: lax.cummax(conv(x), 2, reverse=True),
    "the greatest three": lambda x: lax.top_k(conv(x), 2)[0],
    "mean of rows by a function of one's own": lambda x: lax.reduce(conv(x), 0.0, lambda a, b: a + b, (1,)),
    "attention": attention,
    "vmapped": jax.vmap(lambda image: conv(image[None])[0]),
    "vmapped maximum": lambda x: jax.vmap(lambda image: image.max(axis=2, keepdims=True))(conv(x)),
    "a choice already made": lambda x: lax.cond(True, lambda y: conv(y), lambda y: conv(y, 5), x),
    "a choice of a known array": lambda x: lax.switch(
        jnp.arange(3)[1], [lambda y: conv(y, 1), conv, lambda y: conv(y, 5)], x
    ),
    "a loop over known places": lambda x: lax.fori_loop(0, 3, lambda i, y: y.at[:, i].set(y[:, i + 1]), x),
    "a scan": lambda x: lax.scan(lambda y, _: (conv(y), None), conv(x), length=2)[0],
}


@pytest.mark.parametrize("name", MOVES)
def test_equals_the_nan_probe(name):
    shape = (1, 9, 8, 3)
    fields = receptive_field(MOVES[name], shape)
    assert fields.unknown == ()
    check_against(probe(MOVES[name], shape), fields)


def test_sorting_sees_the_whole_axis():
    # Not for the NaN probe: NaN sorts last.
    (field,) = receptive_field(lambda x: jnp.sort(conv(x), 1), (1, 9, 8, 3)).outputs
    assert field.axes[0].reach.low.ravel().tolist() == [0]
    assert field.axes[0].reach.high.ravel().tolist() == [8]
    assert field.size[1] == 3


RESIZED = {
    "nearest, doubled": ("nearest", (18, 16)),
    "nearest, three to two": ("nearest", (6, 8)),
    "linear, doubled": ("linear", (18, 16)),
    "linear, halved with antialias": ("linear", (5, 4)),
    "cubic, by parts": ("cubic", (12, 11)),
    "lanczos": ("lanczos3", (9, 13)),
}


@pytest.mark.parametrize("name", RESIZED)
def test_resizing_equals_the_derivatives(name):
    method, size = RESIZED[name]

    def function(x):
        return conv(jax.image.resize(x, (1, *size, 2), method), 1)

    fields = receptive_field(function, (1, 9, 8, 2))
    assert fields.unknown == ()
    check_against(derivatives(function, (1, 9, 8, 2)), fields)


def test_the_stride_of_a_resized_picture_is_the_ratio():
    def strides(size, method):
        resized = receptive_field(lambda x: jax.image.resize(x, (1, size, size, 1), method), (1, 24, 24, 1))
        return resized.outputs[0].stride

    assert strides(48, "nearest") == strides(48, "linear") == (Fraction(1, 2),) * 2
    assert strides(12, "linear") == (2, 2)
    assert strides(36, "nearest") == (Fraction(2, 3),) * 2
    assert strides(31, "linear") == (Fraction(24, 31),) * 2


def test_matrices_with_zeros_see_what_they_multiply():
    banded = jnp.asarray(np.tri(8, 8, 1) - np.tri(8, 8, -2), jnp.float32)  # what is at most one away

    def function(x):
        return jnp.einsum("bhc,hk->bkc", x, banded)

    fields = receptive_field(function, (1, 8, 2))
    check_against(derivatives(function, (1, 8, 2)), fields)
    assert fields.outputs[0].size == (3,)
    # The other way round, and after flattening.
    check_against(derivatives(lambda x: banded @ x[0], (1, 8, 2)), receptive_field(lambda x: banded @ x[0], (1, 8, 2)))
    half = jnp.zeros((16, 3)).at[:4, 0].set(1.0).at[6:9, 1].set(1.0)

    def flat(x):
        return x.reshape(1, -1) @ half

    check_against(derivatives(flat, (1, 8, 2)), receptive_field(flat, (1, 8, 2)))


def test_three_dimensions():
    def function(x):
        return max_pool(conv(conv(x, strides=(1, 2, 1)), 1), 2)

    shape = (1, 4, 6, 5, 1)
    fields = receptive_field(function, shape)
    check_against(probe(function, shape), fields)
    assert (fields.outputs[0].size, fields.outputs[0].stride) == ((4, 5, 4), (2, 4, 2))


def test_a_gradient_is_a_function_too():
    shape = (1, 9, 8, 2)

    def function(x):
        return jax.grad(lambda y: (avg_pool(conv(y), 2) ** 2).sum())(x)

    fields = receptive_field(function, shape)
    assert fields.unknown == ()
    check_against(probe(function, shape), fields)


class Small(nnx.Module):
    """Two convolutions in Flax NNX."""

    def __init__(self, rngs):
        self.first = nnx.Conv(2, 3, (5, 5), strides=2, rngs=rngs)
        self.second = nnx.Conv(3, 1, (3, 3), rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.first(x)))


def test_flax_nnx():
    (field,) = receptive_field(Small(nnx.Rngs(0)), (1, 16, 16, 2)).outputs
    assert (field.size, field.stride) == ((9, 9), (2, 2))


def test_equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 2)
    net = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(2, 3, 5, stride=2, padding=2, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Conv2d(3, 1, 3, padding=1, key=keys[1]),
        ]
    )
    (field,) = receptive_field(lambda x: jax.vmap(net)(jnp.moveaxis(x, -1, 1)), (1, 16, 16, 2)).outputs
    assert (field.size, field.stride) == ((15, 15), (4, 4))
