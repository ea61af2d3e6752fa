"""Superposition against hand computation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.analysis import superposition
from cnnjax.functional import correlate

A, B = jax.random.normal(jax.random.key(0), (2, 2, 6, 6, 1))


def net(x):
    with jax.named_scope("linear"):
        x = correlate(x, jnp.ones((3, 3, 1, 2)))
    with jax.named_scope("bias"):
        x = x + 1.0
    with jax.named_scope("rectified"):
        return jax.nn.relu(x)


def test_only_linear_layers_superpose():
    found = superposition(net, A, B)
    deviations = dict(zip(found.layers, found.deviations, strict=True))
    assert deviations["linear"] < 1e-6
    # A constant that is added stands twice in the sum of the answers: what deviates is the constant itself.
    both = correlate(A + B, jnp.ones((3, 3, 1, 2))) + 1.0
    assert deviations["bias"] == pytest.approx(np.sqrt(both.size) / float(jnp.linalg.norm(both.ravel())), rel=1e-4)
    # A picture is no linear signal: a rectifier keeps max(a + b, 0), not max(a, 0) + max(b, 0).
    parts = [np.maximum(np.asarray(correlate(x, jnp.ones((3, 3, 1, 2)))) + 1, 0) for x in (A + B, A, B)]
    expected = np.linalg.norm(parts[0] - parts[1] - parts[2]) / np.linalg.norm(parts[0])
    assert deviations["rectified"] == pytest.approx(expected, rel=1e-4)
    assert superposition(net, A, B, layers="lin*").layers == ("linear",)
    with pytest.raises(ValueError, match=r"pictures of \(2, 6, 6, 1\) and \(1, 6, 6, 1\)"):
        superposition(net, A, B[:1])
