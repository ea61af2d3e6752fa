"""One head or several: which logits count, and what the losses of all come to."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.models import AuxiliaryLogits
from cnnjax.tasks import Mean
from cnnjax.tasks.heads import loss_over_heads, main_logits

LOGITS = jnp.asarray([[1.0, 2.0], [3.0, 6.0]])


def mean_loss(logits):
    return Mean(jnp.sum(logits), jnp.asarray(4.0))


def test_one_head():
    assert main_logits(LOGITS) is LOGITS
    assert loss_over_heads(mean_loss, LOGITS).value == 3.0  # 12 / 4


def test_auxiliary_heads_are_weighted():
    output = AuxiliaryLogits(LOGITS, (2 * LOGITS, 10 * LOGITS), weight=0.5)
    assert main_logits(output) is LOGITS
    loss, gradient = jax.value_and_grad(lambda output: loss_over_heads(mean_loss, output).value)(output)
    assert loss == 3.0 + 0.5 * (6.0 + 30.0)
    np.testing.assert_array_equal(gradient.logits, np.full((2, 2), 1 / 4))
    np.testing.assert_array_equal(gradient.auxiliary[1], np.full((2, 2), 0.5 / 4))


def test_logits_for_every_pixel():
    logits = jnp.ones((2, 3, 4, 5))
    output = AuxiliaryLogits(logits, (logits,), weight=0.5)
    assert main_logits(output) is logits
    assert loss_over_heads(mean_loss, output).value == (1 + 0.5) * 120 / 4


def test_no_auxiliary_heads():
    assert loss_over_heads(mean_loss, AuxiliaryLogits(LOGITS, ())).value == 3.0


def test_a_mean_over_nothing_is_zero():
    def of_nothing(logits):
        return Mean(jnp.sum(logits, where=False), jnp.asarray(0.0))

    loss, gradient = jax.value_and_grad(lambda logits: loss_over_heads(of_nothing, logits).value)(LOGITS)
    assert loss == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 2)))
