"""Two experiments that tell what an output depends on: a NaN in one pixel, and every derivative."""

import jax
import jax.numpy as jnp
import numpy as np


def probe(function, shape):
    """Which outputs turn NaN when one input pixel does: an array [*input pixels, *output]."""
    base = np.ones(shape, np.float32)
    run = jax.jit(lambda x: jnp.isnan(function(x)))
    hit = []
    # One picture at a time: XLA's CPU max-pool of a large batch loses NaN (seen in jax 0.9.2 and 0.12.0.1).
    for pixel in np.ndindex(*shape[1:-1]):
        poisoned = base.copy()
        poisoned[(slice(None), *pixel)] = np.nan
        hit.append(np.asarray(run(poisoned)))
    hit = np.stack(hit)
    return hit.reshape(*shape[1:-1], *hit.shape[1:])


def derivatives(function, shape):
    """Which outputs have a derivative by an input pixel that is not zero: an array [*input pixels, *output]."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    jacobian = np.asarray(jax.jacobian(function)(image)) != 0
    outputs = jacobian.ndim - len(shape)
    reached = jacobian.any(axis=(outputs, jacobian.ndim - 1))
    return np.moveaxis(reached, range(outputs, reached.ndim), range(len(shape) - 2))


def check_against(hit, fields):
    """That the exact reach of the one output is what an experiment found, along every axis and for every element."""
    (field,) = fields.outputs
    pixels = len(field.axes)
    assert field.shape == hit.shape[pixels:]
    seeing = np.ones(field.shape, bool)
    for axis in field.axes:
        seeing &= np.broadcast_to(axis.reach.low <= axis.reach.high, field.shape)
    some = hit.any(axis=tuple(range(pixels)))
    np.testing.assert_array_equal(seeing, some)
    for number, axis in enumerate(field.axes):
        # Which pixels of this axis reach each output, whatever the other axes.
        reached = hit.any(axis=tuple(other for other in range(pixels) if other != number))
        first = reached.argmax(0)
        last = len(reached) - 1 - reached[::-1].argmax(0)
        low, high = (np.broadcast_to(bound, field.shape) for bound in (axis.reach.low, axis.reach.high))
        np.testing.assert_array_equal(low[some], first[some])
        np.testing.assert_array_equal(high[some], last[some])
