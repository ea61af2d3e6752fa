"""Fingerprints of functions that are the same, and of such that are not any more."""

import jax.numpy as jnp
import numpy as np
from jax import lax

from cnnjax.analysis.compiled import Held, fingerprint
from cnnjax.analysis.tracing import trace


class Net:
    """A function with a method."""

    def __init__(self):
        self.weights, self.power, self.table = jnp.ones((1, 1, 1, 3)), 2, np.ones((1, 1, 1, 3), np.float32)

    def scores(self, x):
        turned = lax.while_loop(lambda y: y.sum() < 9, lambda y: y + self.power, x)
        return (turned * self.weights + self.table).mean((1, 2))


def test_what_is_closed_over_is_told_apart():
    net = Net()

    def mark():
        return fingerprint(trace(net.scores, (1, 4, 4, 3)))

    first = mark()
    assert mark() == first
    assert hash(mark()) == hash(first)
    net.power = 3  # inside of a loop
    assert mark() != first
    net.power = 2
    assert mark() == first
    net.weights = jnp.full((1, 1, 1, 3), 2.0)
    assert mark() != first
    net.weights = jnp.ones((1, 1, 1, 3))  # equal, and another array
    assert mark() != first
    second = mark()
    net.table[..., 0] = 5  # in place
    assert mark() != second
    assert fingerprint(trace(net.scores, (1, 4, 5, 3))) != mark()


def test_methods_are_those_of_their_object():
    net, other = Net(), Net()
    assert Held(net.scores) == Held(net.scores)
    assert len({Held(net.scores), Held(net.scores), Held(other.scores), Held(net)}) == 3
    assert Held(net) != net
